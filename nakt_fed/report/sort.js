// A click on a column's title sorts the table by it; numbers as numbers, empty cells last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
    const both = !Number.isNaN(Number(a)) && !Number.isNaN(Number(b));
    return both ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
  };
  table.querySelectorAll("thead button").forEach((button) => {
    button.addEventListener("click", () => {
      const title = button.closest("th");
      const down = title.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      title.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [value(row, title.cellIndex), row]);
      rows.sort(([a], [b]) => (a === "" || b === "" ? compare(a, b) : down ? compare(b, a) : compare(a, b)));
      body.append(...rows.map(([, row]) => row));
    });
  });
}
