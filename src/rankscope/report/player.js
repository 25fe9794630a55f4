// Plays the logged steps of each fit: the pictures, the line that says where it is and the marker in the staircase
// move together, by the slider, by the button, or by a click into the chart.
const players = (() => {
  "use strict";
  const PACE = 250; // milliseconds a stop
  const MARK = "moment";
  const byChart = new Map();

  // The pictures of one sheet: a function that shows those of a stop.
  function screen(list) {
    const { src, curves, width, height } = list.dataset;
    const w = Number(width), h = Number(height);
    if (curves !== undefined) {
      const lines = [...list.querySelectorAll("polyline")], bytes = atob(curves);
      return (at) => lines.forEach((line, i) => {
        const points = [], first = (at * lines.length + i) * w;
        for (let x = 0; x < w; x++) points.push(`${1 + (98 * x) / Math.max(w - 1, 1)},${38 - (36 * bytes.charCodeAt(first + x)) / 255}`);
        line.setAttribute("points", points.join(" "));
      });
    }
    const canvases = [...list.querySelectorAll("canvas")].map((canvas) => canvas.getContext("2d"));
    const sheet = new Image();
    let shown = 0;
    const draw = () => canvases.forEach((canvas, i) => canvas.drawImage(sheet, i * w, shown * h, w, h, 0, 0, w, h));
    sheet.addEventListener("load", draw);
    sheet.src = src;
    return (at) => {
      shown = at;
      if (sheet.complete) draw();
    };
  }

  function make(root) {
    const steps = JSON.parse(root.dataset.steps), said = JSON.parse(root.dataset.said);
    const [slider, button, output] = ["input", ".play", "output"].map((part) => root.querySelector(part));
    const screens = [...root.querySelectorAll(".sheet[data-width]")].map(screen);
    const chart = document.getElementById(root.dataset.chart);
    let timer = 0;

    function show(at) {
      slider.value = String(at);
      slider.setAttribute("aria-valuetext", said[at]);
      output.textContent = said[at];
      for (const draw of screens) draw(at);
      const place = chart?.layout?.shapes?.findIndex((shape) => shape.name === MARK) ?? -1;
      if (place >= 0) Plotly.relayout(chart, { [`shapes[${place}].x0`]: steps[at], [`shapes[${place}].x1`]: steps[at] });
    }
    function play(on) {
      clearInterval(timer);
      timer = on ? setInterval(next, PACE) : 0;
      button.textContent = on ? "Pause" : "Play";
    }
    function next() {
      const at = Number(slider.value) + 1;
      if (at >= steps.length || slider.offsetParent === null) play(false);
      else show(at);
    }
    slider.addEventListener("input", () => {
      play(false);
      show(Number(slider.value));
    });
    button.addEventListener("click", () => {
      if (!timer && Number(slider.value) === steps.length - 1) show(0);
      play(!timer);
    });
    root.hidden = false;
    root.parentElement.classList.add("plays");
    root.closest(".fit").querySelector(".still").hidden = true;
    show(steps.length - 1);
    byChart.set(root.dataset.chart, {
      step: () => steps[Number(slider.value)],
      goTo(step) {
        const far = steps.map((other) => Math.abs(Math.log((1 + other) / (1 + step))));
        play(false);
        show(far.indexOf(Math.min(...far)));
      },
    });
  }

  document.querySelectorAll(".player").forEach(make);
  return {
    // Put the marker into the layout of a chart, if it has a player.
    mark(id, layout, color) {
      const x = byChart.get(id)?.step();
      if (x === undefined) return;
      const line = { type: "line", name: MARK, xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { color, width: 2 } };
      layout.shapes = [...(layout.shapes ?? []), line];
    },
    // Let a click into a drawn chart move its player.
    follow(chart) {
      const player = byChart.get(chart.id);
      if (!player || player.followed) return;
      player.followed = true;
      chart.on("plotly_click", (event) => player.goTo(Number(event.points[0].x)));
    },
  };
})();
