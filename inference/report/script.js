"use strict";
(() => {
  const list = document.getElementById("list");
  const controls = document.getElementById("controls");
  const search = document.getElementById("search");
  const order = document.getElementById("order");
  const count = document.getElementById("count");
  const boxes = [...controls.querySelectorAll("input[name=flag]")];
  const items = [...list.children].map((node) => ({
    node,
    n: Number(node.dataset.n),
    id: node.dataset.id,
    margin: Number(node.dataset.margin),
    wrong: -Number(node.dataset.wrong),
    flags: node.dataset.flags.split(" "),
    text: null,
  }));
  const ids = new Intl.Collator("en", { numeric: true });

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const flags = boxes.filter((box) => box.checked).map((box) => box.value);
    let shown = 0;
    for (const item of items) {
      // Read once, at the first search: a page of megabytes opens without it.
      if (words.length && item.text === null) item.text = item.node.textContent.toLowerCase();
      const fits = flags.every((flag) => item.flags.includes(flag)) && words.every((word) => item.text.includes(word));
      item.node.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown.toLocaleString("en")} of ${items.length.toLocaleString("en")} questions`;
  }

  function sort() {
    const key = order.value;
    items.sort((a, b) => (key === "id" ? ids.compare(a.id, b.id) : a[key] - b[key]) || a.n - b.n);
    list.append(...items.map((item) => item.node));
  }

  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 150);
  });
  boxes.forEach((box) => box.addEventListener("change", filter));
  order.addEventListener("change", sort);
  controls.addEventListener("submit", (event) => event.preventDefault());

  // On paper nothing can be opened.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")].filter((each) => !each.closest("[hidden]"));
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
  });
  controls.hidden = false;
})();
