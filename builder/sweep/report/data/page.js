"use strict";
// The page of a sweep's report: draws the plots, sorts the table, exchanges the knobs of the heat map. No text of the
// user's becomes HTML or an expression: it is put in place with textContent, or is data of a plot.
(() => {
  const given = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const views = new Map();

  const tip = document.body.appendChild(document.createElement("div"));
  tip.id = "tip";
  tip.hidden = true;

  function tooltip(_handler, event, _item, said) {
    tip.hidden = said === null || said === undefined || said === "";
    if (tip.hidden) return;
    const list = document.createElement("dl");
    for (const [label, value] of typeof said === "object" ? Object.entries(said) : [["", said]]) {
      if (value === "" || value === null || value === undefined || value === "null" || value === "NaN") continue;
      list.appendChild(document.createElement("dt")).textContent = label;
      list.appendChild(document.createElement("dd")).textContent = value;
    }
    tip.replaceChildren(list);
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, window.innerWidth - box.width - 8);
    const below = event.clientY + 14;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${below + box.height > window.innerHeight ? event.clientY - box.height - 14 : below}px`;
  }

  async function draw(name, spec) {
    const place = document.querySelector(`[data-plot="${name}"]`);
    views.get(name)?.finalize();
    const config = { ...given.config[dark.matches ? "dark" : "light"], font: getComputedStyle(document.body).fontFamily };
    const options = { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, config, tooltip };
    views.set(name, await vegaEmbed(place, { ...spec, datasets: given.data }, options));
  }

  const calculatedIn = (spec, name) => spec.transform.find((one) => one.as === name);

  // The heat map of two axes and a figure: the specification that Python wrote, with other ones in their places.
  function heat(across, down, figure) {
    const spec = structuredClone(given.specs["heat-map"]);
    const put = (channel, axis) => {
      channel.title = axis.title;
      channel.scale.domain = axis.values;
    };
    put(spec.encoding.x, across);
    put(spec.encoding.y, down);
    spec.width.step = across.step;
    const calculated = (name) => calculatedIn(spec, name);
    calculated("x").calculate = `datum.${across.field}`;
    calculated("y").calculate = `datum.${down.field}`;
    calculated("figure").calculate = `datum.${figure.field}`;
    calculated("strength").calculate = figure.strength;
    spec.transform.find((one) => one.aggregate).aggregate[0].op = figure.best;
    const colour = spec.layer[0].encoding.color.condition;
    colour.legend.title = figure.title;
    colour.scale.reverse = figure.best === "min";
    return spec;
  }

  function select(form, label, options, chosen) {
    const field = form.appendChild(document.createElement("label"));
    field.append(label);
    const list = field.appendChild(document.createElement("select"));
    list.name = label;
    options.forEach((one, index) => list.add(new Option(one.title, index, index === chosen, index === chosen)));
    return list;
  }

  function choose() {
    const form = document.getElementById("choose");
    if (!form) return;
    const { axes, figures } = given.heat;
    const spec = given.specs["heat-map"];
    const of = (list, key, value) => Math.max(0, list.findIndex((one) => one[key] === value));
    const field = (name) => calculatedIn(spec, name).calculate.replace("datum.", "");
    const across = select(form, "across", axes, of(axes, "field", field("x")));
    const down = select(form, "down", axes, of(axes, "field", field("y")));
    const figure = select(form, "figure", figures, of(figures, "field", field("figure")));
    form.addEventListener("change", (event) => {
      if (across.value === down.value) {
        // One knob on both sides says nothing: the other side takes the one that went.
        const other = event.target === across ? down : across;
        other.value = event.target.dataset.before;
      }
      remember();
      draw("heat-map", heat(axes[across.value], axes[down.value], figures[figure.value]));
    });
    const remember = () => [across, down].forEach((list) => { list.dataset.before = list.value; });
    remember();
  }

  // Numbers as numbers, words as words; cells without a value stay at the end, whichever way it goes.
  function compare(one, other) {
    const [a, b] = [Number(one), Number(other)];
    const numbers = one !== "" && other !== "" && !Number.isNaN(a) && !Number.isNaN(b);
    return numbers ? a - b : one.localeCompare(other, "en", { numeric: true });
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => row.cells[column].dataset.v;
        const rows = [...body.rows];
        const known = rows.filter((row) => value(row) !== undefined && value(row) !== "");
        known.sort((a, b) => (up ? 1 : -1) * compare(value(a), value(b)));
        body.append(...known, ...rows.filter((row) => !known.includes(row)));
      });
    });
  }

  async function drawAll() {
    for (const [name, spec] of Object.entries(given.specs)) await draw(name, spec);
    document.documentElement.dataset.drawn = "yes";
  }

  sortable(document.getElementById("points"));
  choose();
  dark.addEventListener("change", () => {
    drawAll().then(() => document.getElementById("choose")?.dispatchEvent(new Event("change")));
  });
  drawAll();
})();
