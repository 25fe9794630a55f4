// Draws the charts in the colours of the page, once they can be seen, and makes tabs of the fits.
(() => {
  "use strict";
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const narrow = window.matchMedia("(max-width: 40rem)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]] };

  function themed(id) {
    const figure = structuredClone(charts[id]);
    const text = colour("--text"), soft = colour("--soft"), line = colour("--line");
    for (const trace of figure.data) trace.line.color = colour(`--ink-${trace.meta.ink}`);
    const layout = figure.layout;
    layout.font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: text };
    layout.paper_bgcolor = layout.plot_bgcolor = colour("--paper");
    layout.hoverlabel = { bgcolor: colour("--card"), bordercolor: line, font: { color: text } };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: text };
    for (const name of ["xaxis", "yaxis", "yaxis2"]) {
      const axis = layout[name];
      if (axis) Object.assign(axis, { gridcolor: line, linecolor: line, zeroline: false, ticks: "", spikecolor: soft, spikethickness: 1 });
    }
    for (const [axis, ink] of [["yaxis", 0], ["yaxis2", 1]]) {
      if (layout.yaxis2) {
        layout[axis].title.font = { color: colour(`--ink-${ink}`) };
        layout[axis].tickfont = { color: colour(`--ink-${ink}`) };
      }
    }
    players.mark(id, layout, text);
    for (const note of layout.annotations ?? []) note.font = { ...note.font, color: soft };
    for (const shape of layout.shapes ?? []) {
      if (shape.label) shape.label.font = { ...shape.label.font, color: soft };
    }
    return figure;
  }

  function draw(root) {
    for (const element of root.querySelectorAll(".chart")) {
      if (element.offsetParent === null) continue;
      const figure = themed(element.id);
      Plotly.react(element, figure.data, figure.layout, { ...config, scrollZoom: false, displayModeBar: narrow.matches ? false : "hover" });
      players.follow(element);
    }
  }

  function makeTabs() {
    const panels = [...document.querySelectorAll(".fit")];
    if (panels.length < 2) return;
    const list = document.createElement("div");
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", "Fits");
    const tabs = panels.map((panel, i) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.id = `tab-${i}`;
      tab.textContent = panel.dataset.name;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panel.id);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      tab.addEventListener("click", () => select(i));
      return tab;
    });
    function select(chosen) {
      tabs.forEach((tab, i) => {
        tab.setAttribute("aria-selected", String(i === chosen));
        tab.tabIndex = i === chosen ? 0 : -1;
        panels[i].hidden = i !== chosen;
      });
      draw(panels[chosen]);
    }
    list.addEventListener("keydown", (event) => {
      const at = tabs.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = (to + tabs.length) % tabs.length;
      select(next);
      tabs[next].focus();
    });
    list.append(...tabs);
    panels[0].before(list);
    const asked = panels.findIndex((panel) => `#${panel.id}` === window.location.hash);
    select(Math.max(asked, 0));
  }

  makeTabs();
  draw(document);
  dark.addEventListener("change", () => draw(document));
})();
