// Exercises that are a choice: each answer is on the page, hidden until it is chosen.
document.querySelectorAll(".choice").forEach((exercise) => {
  const buttons = exercise.querySelectorAll("[data-letter]");
  buttons.forEach((button) =>
    button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      exercise.querySelectorAll("[data-verdict]").forEach((answer) => (answer.hidden = answer.dataset.verdict !== button.dataset.letter));
    }),
  );
});
