"use strict";
(() => {
  const root = document.documentElement, theme = document.getElementById("theme");
  const remember = (value) => { try { value === undefined || localStorage.setItem("vesalius-theme", value); return localStorage.getItem("vesalius-theme"); } catch { return null; } };
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  if (["dark", "light"].includes(remember())) root.dataset.theme = remember();
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; remember(root.dataset.theme); });

  for (const box of document.querySelectorAll("[data-shows]"))
    box.addEventListener("change", () => root.classList.toggle(`no-${box.dataset.shows}`, !box.checked));

  const table = document.getElementById("every");
  if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const value = (row, k) => row.cells[k].dataset.v ?? row.cells[k].textContent;
  const compare = (k, sign) => (a, b) => {
    const x = value(a, k), y = value(b, k);
    if (x === "" || y === "") return (x === "") - (y === "");
    const gap = isNumber(k) ? x - y : x.localeCompare(y, undefined, {numeric: true});
    return sign * gap;
  };
  const isNumber = (k) => rows.some((row) => row.cells[k].dataset.v);
  heads.forEach((head, k) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort(compare(k, up ? 1 : -1));
    body.append(...rows);
  }));

  const search = document.getElementById("search"), label = document.getElementById("label");
  const filter = () => rows.forEach((row) => {
    const found = row.cells[0].textContent.toLowerCase().includes(search.value.toLowerCase());
    row.hidden = !found || (label.value !== "" && row.cells[2].textContent !== label.value);
  });
  search.addEventListener("input", filter);
  label.addEventListener("change", filter);
})();
