// The calculator of docs/tuning.md. The page says where each number comes from; tests/test_tuning.py compares the two.
const NUMBERS = {
  hubBytes: 20e6, // the process without streams, with the history in memory apart
  streamBytes: 2000, // of the process, for each stream
  returningBytes: 10e3, // of the process, for each stream, while all come back at once
  socketBytes: 5000, // of the kernel, for each stream
  deliverySeconds: 8e-6, // processor time of one event for one stream
  aliveSeconds: 30e-6, // processor time of one sign of life for one stream
  aliveEvery: 15, // seconds: keep_alive
  connectSeconds: 200e-6, // processor time of one stream that comes and goes
  lifetimeSeconds: 3600, // max_lifetime
  eventBytes: 65, // beside the data: id, field names, line ends and chunk of HTTP/1.1
  packetBytes: 66, // Ethernet, IP and TCP, for each event
  logBytes: 750, // beside the data, for each update in the log in memory
  storeBytes: 490, // the same in Redis
  storeMargin: 16384, // updates that a store keeps beyond the history, for nodes that lag
};

/**
 * What a hub takes.
 *
 * @param {number} streams open streams
 * @param {number} rate events that each stream receives in a second
 * @param {number} bytes data of an event
 * @param {number} history updates that the log keeps
 */
function estimate(streams, rate, bytes, history) {
  // Signs of life take the place of events that do not come.
  const alive = rate < 1 / NUMBERS.aliveEvery ? 1 / NUMBERS.aliveEvery : 0;
  return {
    processBytes: NUMBERS.hubBytes + streams * NUMBERS.streamBytes,
    returningBytes: NUMBERS.hubBytes + streams * NUMBERS.returningBytes,
    kernelBytes: streams * NUMBERS.socketBytes,
    logBytes: history * (bytes + NUMBERS.logBytes),
    storeBytes: (history + NUMBERS.storeMargin) * (bytes + NUMBERS.storeBytes),
    cores:
      streams * (rate * NUMBERS.deliverySeconds + alive * NUMBERS.aliveSeconds) +
      (streams / NUMBERS.lifetimeSeconds) * NUMBERS.connectSeconds,
    bitsPerSecond: streams * rate * (bytes + NUMBERS.eventBytes + NUMBERS.packetBytes) * 8,
    openFiles: Math.ceil((streams / 7) * 8) + 80,
  };
}

function rounded(value) {
  return String(Number(value.toPrecision(2)));
}

function inUnits(value, step, units) {
  let power = 0;
  while (value >= step && power < units.length - 1) {
    value /= step;
    power += 1;
  }
  return `${rounded(value)} ${units[power]}`;
}

/** An estimate as texts, in the order of the table of the page. */
function said(streams, rate, bytes, history) {
  const found = estimate(streams, rate, bytes, history);
  const memory = ["B", "KB", "MB", "GB", "TB"];
  return {
    "memory of the process": inUnits(found.processBytes, 1000, memory),
    "memory while all come back": inUnits(found.returningBytes, 1000, memory),
    "memory of the kernel": inUnits(found.kernelBytes, 1000, memory),
    "the log in memory": inUnits(found.logBytes, 1000, memory),
    "the log in Redis": inUnits(found.storeBytes, 1000, memory),
    "processor cores": rounded(found.cores),
    network: inUnits(found.bitsPerSecond, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]),
    "open files": String(found.openFiles),
  };
}

function showCalculator(place) {
  const fields = [
    ["streams", "open streams", 10000],
    ["rate", "events a second, for each stream", 0.1],
    ["bytes", "bytes of an event", 500],
    ["history", "updates that the log keeps", 10000],
  ];
  const form = document.createElement("form");
  const table = document.createElement("table");
  const inputs = fields.map(([name, label, value]) => {
    const input = Object.assign(document.createElement("input"), { type: "number", name, min: 0, step: "any", value });
    const line = document.createElement("label");
    line.append(`${label} `, input);
    form.append(line);
    return input;
  });
  function show() {
    const values = inputs.map((input) => Math.max(0, Number(input.value) || 0));
    table.replaceChildren(
      ...Object.entries(said(...values)).map(([name, text]) => {
        const row = document.createElement("tr");
        for (const [kind, content] of [["th", name], ["td", text]]) {
          row.append(Object.assign(document.createElement(kind), { textContent: content }));
        }
        return row;
      }),
    );
  }
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  table.setAttribute("aria-live", "polite");
  show();
  place.replaceChildren(form, table);
}

for (const place of document.querySelectorAll("#calculator")) showCalculator(place);
