"use strict";
// Sorting and filtering; without this script the page shows the same in the order of the tables.
(function () {
  function number(text) {
    const found = text.replace(/,/g, "").match(/[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
    return found ? parseFloat(found[0]) : null;
  }

  function compare(one, other) {
    const a = number(one), b = number(other);
    if (a !== null && b !== null && a !== b) return a - b;
    if ((a === null) !== (b === null)) return a === null ? 1 : -1;
    return one.localeCompare(other);
  }

  function sort(table, column, heading) {
    const descending = heading.getAttribute("aria-sort") === "ascending";
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    rows.sort(function (one, other) {
      const order = compare(one.cells[column].textContent, other.cells[column].textContent);
      return descending ? -order : order;
    });
    rows.forEach(function (row) { body.appendChild(row); });
    Array.from(table.tHead.rows[0].cells).forEach(function (cell) { cell.setAttribute("aria-sort", "none"); });
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  }

  function labelled(text, control) {
    const label = document.createElement("label");
    label.className = "filter";
    label.append(text + " ", control);
    return label;
  }

  document.querySelectorAll("table.sortable").forEach(function (table) {
    Array.from(table.tHead.rows[0].cells).forEach(function (heading, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () { sort(table, column, heading); });
    });
    if (table.tBodies[0].rows.length > 15) {
      const input = document.createElement("input");
      input.type = "search";
      input.addEventListener("input", function () {
        const wanted = input.value.toLowerCase();
        Array.from(table.tBodies[0].rows).forEach(function (row) {
          row.hidden = !row.textContent.toLowerCase().includes(wanted);
        });
      });
      table.parentElement.before(labelled("Only rows with", input));
    }
  });

  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (part) { part.open = true; });
  });

  document.querySelectorAll(".filtered").forEach(function (part) {
    const galleries = Array.from(part.querySelectorAll(".gallery"));
    if (galleries.length < 2) return;
    const select = document.createElement("select");
    select.append(new Option("all", ""));
    galleries.forEach(function (gallery, place) {
      select.append(new Option(gallery.dataset.title, String(place)));
    });
    select.addEventListener("change", function () {
      galleries.forEach(function (gallery, place) {
        gallery.hidden = select.value !== "" && select.value !== String(place);
      });
    });
    part.querySelector("h3").after(labelled("Class", select));
  });
})();
