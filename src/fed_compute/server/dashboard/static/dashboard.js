// Live pages: the journal's feed says that something happened, and the marked parts are asked for again.
(() => {
  const REFRESH_MS = 1000, RESIZE_MS = 200, COPIED_MS = 1500;
  const SERIES = {
    accuracy: ["accuracy", "--series-1", (value) => `${(value * 100).toFixed(1)} %`],
    loss: ["held-out loss", "--series-2", (value) => value.toPrecision(3)],
    train_loss: ["training loss", "--series-3", (value) => value.toPrecision(3)],
    num_updates: ["updates", "--series-4", (value) => `${value}`],
  };
  const MORE = ["--series-1", "--series-3", "--series-4", "--series-2"];
  const KINDS = [
    "job_created", "job_paused", "job_resumed", "job_stopped", "job_finished", "round_opened", "round_started", "round_aggregating", "round_closed",
    "round_abandoned", "task_assigned", "task_expired", "task_released", "update_accepted", "update_refused", "update_late", "evaluation_recorded",
    "version_published", "client_registered", "audit_opened", "audit_closed",
  ];
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const charts = new Map();

  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const isThere = (value) => value !== null && value !== undefined;

  // A series of the server is one that is known here, or any other name, which is then its own label.
  function seriesOf(name, index) {
    const [label, colour, say] = SERIES[name] || [name.replaceAll("_", " "), MORE[index % MORE.length], (value) => `${Number(value.toPrecision(4))}`];
    return { label, colour: ink(colour), say };
  }

  function options(figure, known, isShare) {
    const axis = { stroke: ink("--soft"), grid: { stroke: ink("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const say = (one) => (u, value) => (isThere(value) ? one.say(value) : "–");
    return {
      width: Math.max(200, figure.clientWidth - 32), height: 220, cursor: { drag: { x: true, y: false }, points: { size: 7 } },
      scales: { x: { time: false }, y: isShare ? { range: [0, 1] } : { range: (u, low, high) => [Math.min(0, low || 0), (high || 1) * 1.08] } },
      axes: [{ ...axis, size: 28, space: 60, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }, { ...axis, size: 46, values: isShare ? (u, ticks) => ticks.map((tick) => `${Math.round(tick * 100)} %`) : undefined }],
      series: [{ label: "round" }, ...known.map((one) => ({ label: one.label, stroke: one.colour, fill: known.length === 1 ? `${one.colour}1f` : undefined, width: 2, spanGaps: true, points: { show: false }, value: say(one) }))],
    };
  }

  function describe(figure, known, values, rounds) {
    const said = known.map((one, index) => {
      const last = [...values[index]].reverse().find(isThere);
      return `${one.label}: ${isThere(last) ? one.say(last) : "not measured yet"}`;
    });
    figure.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}. ${rounds} rounds. Newest ${said.join(", ")}.`);
    figure.setAttribute("role", "img");
  }

  function wait(figure) {
    if (figure.querySelector(".waiting")) return;
    const line = document.createElement("p");
    line.className = "waiting";
    line.textContent = "Nothing is measured yet.";
    figure.append(line);
  }

  async function draw(figure) {
    const answer = await fetch(figure.dataset.source, { headers: { Accept: "application/json" } });
    if (!answer.ok || !figure.isConnected) return;
    const columns = await answer.json(), names = figure.dataset.series.split(",").filter((name) => columns[name]);
    const known = names.map(seriesOf), values = names.map((name) => columns[name]);
    describe(figure, known, values, columns.round.length);
    const chart = charts.get(figure);
    if (!values.some((column) => column.some(isThere))) { if (!chart) wait(figure); return; }
    if (chart) { chart.setData([columns.round, ...values]); return; }
    figure.querySelector(".waiting")?.remove();
    charts.set(figure, new uPlot(options(figure, known, names[0].startsWith("accuracy")), [columns.round, ...values], figure));
  }

  function redraw() {
    charts.forEach((chart, figure) => { if (!figure.isConnected) { chart.destroy(); charts.delete(figure); } });
    document.querySelectorAll(".chart").forEach((figure) => draw(figure).catch(() => {})); // the next event asks again
  }

  function rebuild() { charts.forEach((chart) => chart.destroy()); charts.clear(); redraw(); }

  function say(state, word) {
    const live = document.getElementById("live");
    live.className = `live ${state}`;
    live.querySelector(".word").textContent = word;
  }

  let waiting = null;
  function refresh() {
    if (waiting !== null || document.hidden) return;
    waiting = setTimeout(() => { waiting = null; htmx.trigger(document.body, "live"); redraw(); }, REFRESH_MS);
  }

  function follow() {
    const feed = new EventSource("/events");
    feed.onopen = () => { say("on", "live"); refresh(); };
    feed.onerror = () => say("off", "not connected");
    KINDS.forEach((kind) => feed.addEventListener(kind, refresh));
    addEventListener("pagehide", () => feed.close());
  }

  // What is being used stays as it is: an open menu or a field with the cursor is not replaced under the hand.
  function keep(event) {
    const part = event.detail.elt;
    if (part.querySelector && (part.querySelector("details[open]") || part.querySelector("input:focus, textarea:focus, select:focus"))) event.preventDefault();
  }

  function offerCopies() {
    if (!navigator.clipboard) return;
    document.querySelectorAll("pre").forEach((text) => {
      const frame = document.createElement("div"), button = document.createElement("button");
      frame.className = "copied";
      button.className = "copy";
      button.type = "button";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(text.textContent.trim());
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, COPIED_MS);
      });
      const holder = text.closest(".scroll") || text;
      holder.replaceWith(frame);
      frame.append(holder, button);
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    redraw();
    follow();
    offerCopies();
    isDark.addEventListener("change", rebuild);
    document.body.addEventListener("htmx:beforeRequest", (event) => { if (event.detail.requestConfig?.triggeringEvent?.type === "live") keep(event); });
    let resized = null;
    addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(rebuild, RESIZE_MS); });
    document.addEventListener("visibilitychange", refresh);
  });
})();
