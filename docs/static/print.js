// On paper nothing scrolls: a formula that is wider than the page is made smaller. Its width is measured before printing.
addEventListener("beforeprint", () => {
  const paper = 590; // CSS pixels between the margins of A4 or letter
  document.querySelectorAll("div.math mjx-container > svg").forEach((formula) => {
    const numbered = parseFloat(formula.style.minWidth); // in ex, of one that has a number
    const width = numbered ? numbered * exOf(formula) : formula.getBoundingClientRect().width;
    formula.closest("div.math").style.setProperty("--on-paper", Math.min(1, paper / width));
  });
});

function exOf(element) {
  const ruler = element.parentElement.appendChild(document.createElement("span"));
  ruler.style.cssText = "position: absolute; width: 100ex";
  const ex = ruler.getBoundingClientRect().width / 100;
  ruler.remove();
  return ex;
}
