// What moves on a report: themes, charts, sorting, filters and the stages of token maps.
// It reads the page and the island of figures, which is data; it writes text and attributes, never markup.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("script");
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

  // Themes: the system's, or the one that was chosen; paper is light.
  const system = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const PAPER = 640;  // pixels of a figure that fits on A4 and on letter
  const isDark = () => !printing && (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  // Charts: figures come in light colours; the dark theme has another for each.
  const island = document.getElementById("figures");
  const data = island ? JSON.parse(island.textContent) : { figures: [], dark: {} };
  const coarse = matchMedia("(pointer: coarse)").matches;
  const repaint = (value) => {
    if (typeof value === "string") return isDark() && Object.hasOwn(data.dark, value) ? data.dark[value] : value;
    if (Array.isArray(value)) return value.map(repaint);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, repaint(part)]));
  };
  const narrow = (figure) => {  // names of boxes above them, legends with a line for each name
    if (figure.data.every((trace) => trace.type === "box")) {
      Object.assign(figure.layout.yaxis, { ticklabelposition: "inside top", tickson: "boundaries" });
      figure.layout.height += 8 * figure.data.length;
    } else {
      figure.layout.height += 20 * figure.data.length;
    }
  };
  const draw = (place) => {
    const figure = repaint(data.figures[Number(place.dataset.figure)]);
    figure.layout.dragmode = coarse ? false : "zoom";
    figure.layout.width = printing ? PAPER : Math.max(240, Math.floor(place.clientWidth));
    if (figure.layout.width < 480) narrow(figure);
    Plotly.react(place, figure.data, figure.layout, { displayModeBar: false, scrollZoom: false });
  };
  const plots = all(".plot");
  const drawAll = () => plots.forEach(draw);
  let wait = 0;
  const later = () => { clearTimeout(wait); wait = setTimeout(drawAll, 120); };
  const theme = document.getElementById("theme");
  theme.addEventListener("change", () => {
    if (theme.value) root.dataset.theme = theme.value; else delete root.dataset.theme;
    drawAll();
  });
  system.addEventListener("change", drawAll);
  addEventListener("resize", later);
  addEventListener("beforeprint", () => { printing = true; drawAll(); });
  addEventListener("afterprint", () => { printing = false; drawAll(); });
  drawAll();

  // Tables: a header's button sorts its column, once more turns it round; what has no value comes last.
  const words = new Intl.Collator("en", { numeric: true });
  const keyOf = (cell) => {
    if (cell.dataset.key !== undefined) return Number(cell.dataset.key);
    const text = cell.textContent.trim();
    return text === "" || text === "–" ? null : text;
  };
  const compare = (one, two, sign) => {
    if (one === null || two === null) return (one === null) - (two === null);
    if (typeof one === "number" && typeof two === "number") return sign * (one - two);
    if (typeof one !== typeof two) return typeof one === "number" ? -1 : 1;
    return sign * words.compare(one, two);
  };
  const sort = (header) => {
    const row = header.parentElement;
    const body = header.closest("table").tBodies[0];
    const at = Array.from(row.cells).indexOf(header);
    const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of row.cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const rows = Array.from(body.rows, (line) => [keyOf(line.cells[at]), line]);
    rows.sort((one, two) => compare(one[0], two[0], sign));
    body.append(...rows.map((pair) => pair[1]));
  };
  for (const button of all(".scroll thead button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  // Filters: all of them at once.
  const items = all(".item").map((element) => ({
    element,
    text: element.textContent.toLowerCase(),
    differs: "differs" in element.dataset,
    gained: "gained" in element.dataset,
  }));
  const differs = document.getElementById("only-differs");
  const gained = document.getElementById("only-gained");
  const search = document.getElementById("search");
  const filter = () => {
    const wanted = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const item of items) {
      const fits = (!differs.checked || item.differs) && (!gained.checked || item.gained)
        && wanted.every((word) => item.text.includes(word));
      item.element.hidden = !fits;
      shown += fits;
    }
    document.getElementById("shown").textContent = `${shown} of ${items.length} shown`;
    document.querySelector("#gallery .none").hidden = shown > 0;
  };
  if (search) {
    for (const box of [differs, gained]) box.addEventListener("change", filter);
    search.addEventListener("input", filter);
    filter();
  }

  // Token maps: one stage of one schedule over the image.
  for (const item of all(".item.traced")) {
    const slider = item.querySelector(".slide input");
    if (!slider) continue;
    const output = item.querySelector("output");
    const stages = all(".stage", item);
    const show = () => {
      const arm = item.querySelector(".map input[type=radio]:checked").value;
      const mine = stages.filter((stage) => stage.dataset.arm === arm);
      slider.max = String(mine.length - 1);
      const wanted = mine[Math.min(Number(slider.value), mine.length - 1)];
      for (const stage of stages) stage.toggleAttribute("hidden", stage !== wanted);
      output.textContent = wanted.dataset.text;
      slider.setAttribute("aria-valuetext", wanted.dataset.text);
    };
    slider.addEventListener("input", show);
    const boxes = item.querySelector(".with-boxes");
    boxes.addEventListener("change", () => item.classList.toggle("no-boxes", !boxes.checked));
    for (const radio of all(".map input[type=radio]", item)) radio.addEventListener("change", show);
    show();
  }
})();
