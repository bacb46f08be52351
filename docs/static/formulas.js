// Beside every displayed formula: its LaTeX to copy, and where it has a number, the way to its line in the index. One that is
// a little wider than its column is made smaller; on a phone a wide one scrolls.
addEventListener("load", () => window.MathJax?.startup.promise.then(() => {
  const index = document.querySelector("a[href*='92_equation_index.html']")?.href.split("#")[0];
  for (const formula of MathJax.startup.document.math) {
    const box = formula.typesetRoot?.closest("div.math");
    if (!formula.display || !box) continue;
    const tools = document.createElement("div");
    tools.className = "formula-tools";
    const copy = tools.appendChild(document.createElement("button"));
    const number = /\\tag\{([^}]+)\}/.exec(formula.math)?.[1];
    const name = number ? `of (${number})` : "of this formula";
    Object.assign(copy, { type: "button", textContent: "LaTeX" });
    copy.setAttribute("aria-label", `Copy the LaTeX ${name}`);
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(formula.math.trim());
      copy.textContent = "copied";
      setTimeout(() => (copy.textContent = "LaTeX"), 1500);
    });
    if (number && index && !location.pathname.endsWith("92_equation_index.html")) {
      const line = tools.appendChild(document.createElement("a"));
      Object.assign(line, { href: `${index}#line-${number}`, textContent: "index" });
      line.setAttribute("aria-label", `(${number}) in the index`);
    }
    box.before(tools);
  }
  fit();
  addEventListener("resize", fit);
  addEventListener("toggle", fit, true); // what was folded has its width now
}));

function fit() {
  for (const box of document.querySelectorAll("div.math")) {
    box.style.fontSize = "";
    for (let size = 99; size >= 85 && box.scrollWidth > box.clientWidth; size--) box.style.fontSize = `${size}%`;
  }
}
