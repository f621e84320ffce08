"use strict";
(() => {
  const root = document.documentElement;
  try {  // the theme that was chosen here before, where the browser keeps such things
    root.dataset.theme = localStorage.getItem("fairstep-theme") || "";
  } catch { /* it does not */ }
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const touch = matchMedia("(pointer: coarse)").matches;
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // Figures: drawn from the embedded JSON, in the colours of the theme.
  const drawn = Object.entries(JSON.parse(document.getElementById("fairstep-figures").textContent)).map(
    ([name, value]) => ({ figure: document.getElementById("figure-" + name), ...value }),
  );
  const themed = (layout) => {
    const copy = structuredClone(layout);
    const axis = { gridcolor: css("--grid"), linecolor: css("--line"), tickcolor: css("--line") };
    for (const key of Object.keys(copy)) if (/^[xy]axis/.test(key)) copy[key] = { ...copy[key], ...axis };
    return {
      ...copy,
      autosize: true,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: css("--sans"), size: 13, color: css("--ink") },
      hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--line"), font: { color: css("--ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--ink") },
      // A finger on the figure scrolls the page.
      dragmode: touch ? false : "zoom",
    };
  };
  // What is folded away has no width yet, and is drawn when it is opened.
  const draw = () =>
    drawn.forEach(({ figure, data, layout }) => {
      if (figure.closest("details:not([open])")) return;
      const options = {
        responsive: true,
        displaylogo: false,
        displayModeBar: !touch,
        modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
        toImageButtonOptions: { format: "svg", filename: "fairstep-" + figure.id },
      };
      Plotly.react(figure.querySelector(".plot"), data, themed(layout), options);
    });

  // Choices: of the groups of a figure one is shown; a trace is visible if its group and its contestant are.
  const off = new Map(drawn.map(({ figure }) => [figure, new Set()]));
  const apply = ({ figure, data }) => {
    const group = figure.dataset.group;
    data.forEach((trace) => {
      const other = trace.legendgroup && group && trace.legendgroup !== group;
      trace.visible = !other && !off.get(figure).has(trace.meta);
    });
  };
  drawn.forEach((entry) => {
    const { figure, groups } = entry;
    if (!groups) return;
    const label = document.createElement("label");
    const select = document.createElement("select");
    label.className = "choice";
    groups.forEach((name) => select.append(new Option(name, name)));
    select.addEventListener("input", () => {
      figure.dataset.group = select.value;
      apply(entry);
      draw();
    });
    label.append("show ", select);
    figure.prepend(label);
    figure.dataset.group = groups[0];
    apply(entry);
  });
  draw();
  all("details").forEach((fold) => fold.addEventListener("toggle", draw));

  // Legends: buttons, so that a keyboard reaches them; one switches all traces of its contestant in that figure.
  drawn.forEach((entry) => {
    const { figure, layout } = entry;
    const legend = document.createElement("div");
    legend.className = "legend";
    legend.setAttribute("role", "group");
    legend.setAttribute("aria-label", "Contestants shown");
    for (const { name, colour } of layout.meta) {
      const button = document.createElement("button");
      const dot = document.createElement("span");
      dot.className = "dot";
      dot.style.background = colour;
      button.type = "button";
      button.dataset.name = name;
      button.setAttribute("aria-pressed", true);
      button.append(dot, name);
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", shown);
        off.get(figure)[shown ? "delete" : "add"](name);
        apply(entry);
        draw();
      });
      legend.append(button);
    }
    if (layout.meta.length) figure.prepend(legend);
  });

  // Theme: the system's, until the button says otherwise.
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try {
      localStorage.setItem("fairstep-theme", root.dataset.theme);
    } catch { /* it is chosen anew next time */ }
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  // Sorting: numbers by data-value, empty ones last; the same header again turns the order.
  all("table").forEach((table) => {
    const heads = all("thead th", table);
    heads.forEach((head, column) =>
      head.querySelector("button")?.addEventListener("click", () => {
        const order = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order === 1 ? "ascending" : "descending");
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const compare = (a, b) => {
          const [x, y] = [value(a), value(b)];
          if (x === "" || y === "") return (x === "") - (y === "");
          return order * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
        };
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort(compare));
      }),
    );
  });

  // Filters.
  all(".filters").forEach((form) => {
    const rows = [...document.getElementById(form.dataset.for).tBodies[0].rows];
    const narrow = () => {
      let shown = 0;
      rows.forEach((row) => {
        row.hidden = all("[data-filter]", form).some(({ value, dataset }) =>
          dataset.filter === "text"
            ? !row.textContent.toLowerCase().includes(value.toLowerCase())
            : value !== "" && row.dataset[dataset.filter] !== value,
        );
        shown += !row.hidden;
      });
      form.querySelector("output").textContent = `${shown} of ${rows.length} ${form.dataset.noun}`;
    };
    form.addEventListener("input", narrow);
    form.addEventListener("submit", (event) => event.preventDefault());
    narrow();
  });

  all("[data-copy]").forEach((button) =>
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "selected";
      }
    }),
  );
})();
