"use strict";
(() => {
  const button = document.getElementById("unmask");
  button.addEventListener("click", () => {
    const masked = document.body.classList.toggle("masked");
    button.textContent = masked ? "Show harmful text" : "Mask harmful text";
    button.setAttribute("aria-pressed", String(!masked));
  });
  const kind = document.getElementById("kind");
  const changed = document.getElementById("changed");
  const count = document.getElementById("count");
  const rows = [...document.querySelectorAll(".row")];
  const choose = () => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = (kind.value !== "" && row.dataset.kind !== kind.value) || (changed !== null && changed.checked && row.dataset.differs !== "yes");
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} prompts`;
  };
  kind.addEventListener("change", choose);
  if (changed !== null) changed.addEventListener("change", choose);
  choose();
})();
