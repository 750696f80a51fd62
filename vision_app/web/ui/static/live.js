// Keeps the parts of a document up to date that have `data-live="<path>"` and `data-every="<seconds>"`: asks the server
// for the part as HTML and puts it in place. Nothing is asked for while the document is hidden. With
// `data-changes="<path>"` it also asks when this stream of server-sent events tells of a change. A part that contains
// `data-reload` loads the whole document anew.
const MAX_SECONDS = 60;

function keep(part) {
  const every = Number(part.dataset.every || 5);
  let pause = every;
  let tag = "";

  async function refresh() {
    if (document.hidden || part.contains(document.activeElement)) return;
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const answer = await fetch(part.dataset.live, { headers, credentials: "same-origin" });
      if (answer.status === 401) return location.reload();
      if (!answer.ok && answer.status !== 304) throw new Error(String(answer.status));
      if (answer.status === 200) {
        part.innerHTML = await answer.text();
        tag = answer.headers.get("ETag") || "";
        if (part.querySelector("[data-reload]")) return location.reload();
      }
      part.classList.remove("live-lost");
      pause = every;
    } catch {
      part.classList.add("live-lost");
      pause = Math.min(pause * 2, MAX_SECONDS);
    }
  }

  async function loop() {
    for (;;) {
      await new Promise((done) => setTimeout(done, pause * 1000));
      await refresh();
    }
  }
  loop();
  if (!part.dataset.changes) return;
  const changes = new EventSource(part.dataset.changes);
  for (const kind of ["state", "change"]) changes.addEventListener(kind, refresh);
}

for (const part of document.querySelectorAll("[data-live]")) keep(part);

// A check box with `data-all="<name>"` marks all boxes of that name.
for (const all of document.querySelectorAll("[data-all]")) {
  all.addEventListener("change", () => {
    for (const one of document.querySelectorAll(`input[name="${all.dataset.all}"]`)) one.checked = all.checked;
  });
}
