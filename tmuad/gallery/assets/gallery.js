// The gallery: filters, sorting, a grid that holds only the tiles in view, and the card of one image.
// Whatever comes from the data reaches the page as text, never as markup.
"use strict";
(() => {
  const DATA = window.TMUAD_GALLERY;
  const [PICTURE, UNIT, PATH, KIND, DEFECT, TEST, ANOMALOUS, SCORE, REASONS] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const TILE = 168, LABEL = 28, GAP = 12;
  const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7"]; // of reasons, as on verdict cards
  const SORTS = { high: "score, highest first", low: "score, lowest first", near: "nearest to the threshold", name: "name" };
  const DEFAULTS = { unit: "", kind: "", verdict: "", split: "", reason: "", wrong: "", q: "", sort: "high" };
  const rows = DATA.rows, total = DATA.count ?? rows.length; // of very many images, rows come file by file
  const state = { ...DEFAULTS, opacity: 60 };
  const TALLEST = 8e6; // px
  let tall = 0;
  let shown = [], cursor = 0, columns = 1, open = -1, byPatch = false, heat = 60;
  const $ = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const file = (folder, stem, suffix) => `${folder}/${encodeURIComponent(stem)}.${suffix}`;
  const plural = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;
  const verdictOf = (row) => (row[ANOMALOUS] ? "anomalous" : "good");
  const isWrong = (row) => (row[KIND] !== 0) !== (row[ANOMALOUS] === 1);
  const thresholdOf = (row) => DATA.units[row[UNIT]].threshold;
  const truthOf = (row) => {
    const kind = DATA.kinds[row[KIND]], defect = DATA.defects[row[DEFECT]];
    return defect && !defect.startsWith(kind) ? `${kind}: ${defect}` : kind; // some data sets know no finer name than the kind
  };
  const wordsOf = ([attribute, name]) => (name ? `${attribute}: ${name}` : attribute);

  // --- what is shown

  const TESTS = {
    unit: (row) => state.unit === "" || row[UNIT] === Number(state.unit),
    kind: (row) => state.kind === "" || row[KIND] === Number(state.kind),
    verdict: (row) => state.verdict === "" || row[ANOMALOUS] === Number(state.verdict),
    split: (row) => state.split === "" || row[TEST] === Number(state.split),
    reason: (row) => state.reason === "" || row[REASONS].includes(Number(state.reason)),
    wrong: (row) => state.wrong === "" || isWrong(row),
    q: (row) => {
      const wanted = state.q.trim().toLowerCase();
      return wanted === "" || row[PATH].toLowerCase().includes(wanted) || DATA.defects[row[DEFECT]].toLowerCase().includes(wanted);
    },
  };
  const NAMES = Object.keys(TESTS);
  // Every row is asked once: which of the filters it fails, a bit each. A facet counts the rows that fail none but its own.
  let failed = new Uint8Array(0);
  function ask() {
    const active = NAMES.map((name, bit) => [TESTS[name], 1 << bit]).filter((_, bit) => state[NAMES[bit]] !== "");
    failed = new Uint8Array(rows.length);
    for (const [test, bit] of active) for (let index = 0; index < rows.length; index += 1) if (!test(rows[index])) failed[index] |= bit;
  }
  const passes = (index, except) => (failed[index] & ~(1 << NAMES.indexOf(except))) === 0;
  const distance = (row) => {
    const threshold = thresholdOf(row);
    return threshold === null ? Infinity : Math.abs(row[SCORE] - threshold) / Math.max(threshold, 1e-9);
  };
  const ORDERS = {
    high: (a, b) => b[SCORE] - a[SCORE],
    low: (a, b) => a[SCORE] - b[SCORE],
    near: (a, b) => distance(a) - distance(b) || 0,
    name: () => 0,
  };

  function update(keepOpen) {
    const current = shown[cursor];
    ask();
    shown = [];
    for (let index = 0; index < rows.length; index += 1) if (failed[index] === 0) shown.push(index);
    const order = ORDERS[state.sort];
    if (state.sort !== "name") shown.sort((a, b) => order(rows[a], rows[b]) || a - b); // rows stand in the order of names
    cursor = Math.max(0, shown.indexOf(current));
    facets();
    histogram();
    const wrong = shown.reduce((sum, index) => sum + isWrong(rows[index]), 0);
    $("count").replaceChildren(make("b", "", plural(shown.length, "image")), ` of ${rows.length.toLocaleString("en")}`);
    if (rows.length < total) $("count").append(`, loading ${total.toLocaleString("en")}`);
    if (wrong) $("count").append(", ", make("span", "warn", plural(wrong, "wrong verdict")));
    $("empty").hidden = shown.length > 0;
    if (!keepOpen) $("scroller").scrollTop = 0;
    layout();
    remember();
  }

  function facets() {
    const perValue = { kind: new Array(DATA.kinds.length).fill(0), verdict: [0, 0] }, perReason = new Array(DATA.reasons.length).fill(0);
    let wrong = 0;
    for (let index = 0; index < rows.length; index += 1) {
      const row = rows[index];
      if (passes(index, "kind")) perValue.kind[row[KIND]] += 1;
      if (passes(index, "verdict")) perValue.verdict[row[ANOMALOUS]] += 1;
      if (passes(index, "wrong") && isWrong(row)) wrong += 1;
      if (passes(index, "reason")) for (const reason of row[REASONS]) perReason[reason] += 1;
    }
    const sumOf = (counts) => counts.reduce((sum, count) => sum + count, 0);
    for (const chip of document.querySelectorAll(".chips .chip")) {
      const { facet, value } = chip.dataset;
      chip.setAttribute("aria-pressed", String(state[facet] === value));
      chip.querySelector("b").textContent = value === "" ? sumOf(perValue[facet]) : perValue[facet][Number(value)];
    }
    $("wrong").setAttribute("aria-pressed", String(state.wrong !== ""));
    $("wrong").querySelector("b").textContent = wrong;
    const listed = DATA.reasons.map((reason, index) => [index, wordsOf(reason), perReason[index]]);
    listed.sort((a, b) => b[2] - a[2] || (a[1] < b[1] ? -1 : 1));
    const options = listed.filter(([index, , n]) => n > 0 || String(index) === state.reason);
    fill($("reason"), [["", "any"], ...options.map(([index, words, n]) => [String(index), `${words} (${n})`])], state.reason);
    for (const name of ["unit", "split", "sort"]) $(name).value = state[name];
    if ($("search").value !== state.q) $("search").value = state.q;
  }

  function fill(select, options, value) {
    select.replaceChildren(...options.map(([key, words]) => {
      const option = make("option", "", words);
      option.value = key;
      return option;
    }));
    select.value = value;
  }

  function histogram() {
    const canvas = $("histogram"), scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth || 320, height = 44, bins = 48, top = 3;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const draw = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    draw.scale(scale, scale);
    const counts = DATA.kinds.map(() => new Array(bins).fill(0));
    for (const index of shown) {
      const row = rows[index], threshold = thresholdOf(row);
      if (!threshold) continue;
      counts[row[KIND]][Math.min(bins - 1, Math.floor((row[SCORE] / threshold / top) * bins))] += 1;
    }
    const highest = Math.max(1, ...counts[0].map((_, bin) => counts.reduce((sum, kind) => sum + kind[bin], 0)));
    const floor = height - 12;
    for (let bin = 0; bin < bins; bin += 1) {
      let base = floor;
      DATA.kinds.forEach((kind, number) => {
        const tall = (counts[number][bin] / highest) * (floor - 2);
        draw.fillStyle = style.getPropertyValue(`--kind-${kind}`);
        draw.fillRect((bin * width) / bins, base - tall, width / bins - 1, tall);
        base -= tall;
      });
    }
    draw.fillStyle = style.getPropertyValue("--faint");
    draw.fillRect(0, floor, width, 1);
    draw.font = "10px system-ui, sans-serif";
    draw.fillRect(width / top, 0, 1, floor + 3);
    draw.fillText("threshold", width / top + 4, 9);
    ["0", "2×", "3× and more"].forEach((words, tick) => {
      draw.textAlign = ["left", "center", "right"][tick];
      draw.fillText(words, [0, (2 * width) / top, width][tick], height - 1);
    });
  }

  // --- the grid

  function layout() {
    const width = $("scroller").clientWidth - 32;
    columns = Math.max(1, Math.floor((width + GAP) / (TILE + GAP)));
    const side = Math.floor((width + GAP) / columns) - GAP;
    tall = Math.ceil(shown.length / columns) * (side + LABEL + GAP) + 2 * GAP;
    $("grid").style.height = `${Math.min(tall, TALLEST)}px`;
    $("grid").dataset.side = side;
    draw();
  }

  // A browser's pages end at some 30 million pixels. A taller grid is drawn where the scroll bar points to, in proportion.
  const squeezed = () => tall > TALLEST;
  const room = (height) => Math.max(1, height - $("scroller").clientHeight);
  const lookedAt = () => (squeezed() ? $("scroller").scrollTop * (room(tall) / room(TALLEST)) : $("scroller").scrollTop);
  const lookAt = (y) => { $("scroller").scrollTop = squeezed() ? y * (room(TALLEST) / room(tall)) : y; };

  function draw() {
    const scroller = $("scroller"), grid = $("grid"), side = Number(grid.dataset.side), step = side + LABEL + GAP;
    const at = lookedAt(), shift = squeezed() ? scroller.scrollTop - at : 0;
    const first = Math.max(0, Math.floor(at / step) - 2) * columns;
    const last = Math.min(shown.length, (Math.ceil((at + scroller.clientHeight) / step) + 2) * columns);
    const kept = new Map();
    for (const tile of [...grid.children]) {
      const place = Number(tile.dataset.place);
      if (place >= first && place < last && Number(tile.dataset.index) === shown[place]) kept.set(place, tile);
      else tile.remove();
    }
    for (let place = first; place < last; place += 1) {
      const tile = kept.get(place) || tileOf(shown[place]);
      tile.dataset.place = place;
      tile.tabIndex = place === cursor ? 0 : -1;
      tile.setAttribute("aria-posinset", place + 1);
      tile.setAttribute("aria-setsize", shown.length);
      tile.style.left = `${(place % columns) * (side + GAP)}px`;
      tile.style.top = `${GAP + Math.floor(place / columns) * step + shift}px`;
      tile.style.width = `${side}px`;
      tile.style.height = `${side + LABEL}px`;
      if (!tile.isConnected) grid.append(tile);
    }
  }

  function tileOf(index) {
    const row = rows[index], verdict = verdictOf(row), wrong = isWrong(row);
    const tile = make("button", wrong ? "tile wrong" : "tile");
    tile.dataset.index = index;
    tile.setAttribute("role", "option");
    const about = truthOf(row);
    tile.setAttribute("aria-label", `${row[PATH]}: judged ${verdict}, is ${about}, score ${row[SCORE].toFixed(2)}`);
    tile.title = `${DATA.units[row[UNIT]].name}: ${row[PATH]}\n${about}; judged ${verdict}`;
    const photo = make("div", "photo");
    photo.append(picture(file("thumbs", row[PICTURE], "jpg"), ""), heatOf(row));
    if (wrong) photo.append(make("span", "flag", row[ANOMALOUS] ? "false alarm" : "missed"));
    const label = make("div", "label"), name = make("span", "name");
    name.append(make("bdi", "", row[PATH].slice(row[PATH].lastIndexOf("/") + 1)));
    label.append(make("span", `dot ${DATA.kinds[row[KIND]]}`), make("span", `score ${verdict}`, row[SCORE].toFixed(2)), name);
    tile.append(photo, label);
    return tile;
  }

  function picture(source, words) {
    const image = make("img");
    image.decoding = "async";
    image.loading = "lazy";
    image.alt = words;
    image.src = source;
    return image;
  }

  function heatOf(row) {
    const image = picture(file("maps", row[PICTURE], "png"), "");
    image.classList.add("heat");
    image.style.opacity = state.opacity / 100;
    return image;
  }

  function move(to, focus = true) {
    if (!shown.length) return;
    cursor = Math.min(shown.length - 1, Math.max(0, to));
    const side = Number($("grid").dataset.side), step = side + LABEL + GAP, scroller = $("scroller");
    const above = Math.floor(cursor / columns) * step, below = above + step + 2 * GAP - scroller.clientHeight;
    if (lookedAt() > above) lookAt(above);
    if (lookedAt() < below) lookAt(squeezed() ? below + step : below); // a pixel of the scroll bar is several of the grid
    draw();
    if (focus) $("grid").querySelector(`[data-place="${cursor}"]`)?.focus({ preventScroll: true });
  }

  // --- the card

  // Rows of a large gallery come one file after another, while those that are there can be looked at.
  let awaited = null; // the picture whose card the address asks for, while its row is yet to come
  DATA.more = (number, items) => {
    for (const item of items) rows.push(item);
  };
  function load(number) {
    if (number >= (DATA.files ?? 0)) return;
    const script = make("script");
    script.src = `rows/${number}.js`;
    script.onload = () => {
      const last = number + 1 === DATA.files;
      if (last || (number & (number + 1)) === 0) update(true); // after 1, 2, 4, ... files: sorting all each time would take longest
      if (awaited !== null) unfold(awaited);
      load(number + 1);
    };
    script.onerror = () => $("count").append(make("span", "warn", `, rows/${number}.js could not be loaded`));
    document.head.append(script);
  }

  const details = new Map(), waiting = new Map();
  DATA.detail = (chunk, items) => {
    details.set(chunk, items);
    waiting.get(chunk)?.(true);
  };

  function detailOf(index) {
    const chunk = Math.floor(index / DATA.chunk);
    const item = () => details.get(chunk)?.[index % DATA.chunk] ?? null;
    if (details.has(chunk)) return Promise.resolve(item());
    return new Promise((resolve) => {
      const script = make("script");
      script.src = `details/${chunk}.js`;
      script.onerror = () => resolve(null);
      waiting.set(chunk, () => resolve(item()));
      document.head.append(script);
    });
  }

  async function show(index) {
    open = index;
    const row = rows[index], verdict = verdictOf(row), place = shown.indexOf(index);
    $("card-verdict").textContent = verdict;
    $("card-verdict").className = `verdict ${verdict}${isWrong(row) ? " wrong" : ""}`;
    $("card-title").textContent = row[PATH];
    $("card-place").textContent = place < 0 ? "" : `${place + 1} of ${shown.length}`;
    if (!$("card").open) $("card").showModal();
    remember();
    const detail = await detailOf(index);
    if (open !== index) return; // another image was opened while this one's details came
    facts(row, detail);
    panels(row, detail);
    reasons(row, detail);
    fields(detail);
    $("card-body").scrollTop = 0;
    $("card").dataset.ready = String(index);
  }

  function facts(row, detail) {
    const threshold = thresholdOf(row);
    const parts = [DATA.units[row[UNIT]].name, " · is ", make("b", "", truthOf(row))];
    parts.push(" · score ", make("b", "", row[SCORE].toFixed(2)), threshold === null ? ", no threshold" : `, threshold ${threshold.toFixed(2)}`);
    if (detail) parts.push(` · a normal image scores this high with p = ${detail.p} (${plural(detail.normals, "held-out image")}) · ${detail.id.slice(0, 12)}`);
    $("card-facts").replaceChildren(...parts);
  }

  function panels(row, detail) {
    const photo = () => picture(file("images", row[PICTURE], "jpg"), row[PATH]);
    const truth = detail?.truth ? [photo(), picture(file("truth", detail.truth, "png"), "outline of the ground truth")] : [photo()];
    const said = detail?.truth ? "ground truth" : row[KIND] === 0 ? "ground truth: nothing to find" : "ground truth: no mask";
    $("panels").replaceChildren(
      panel("image, with the regions of its reasons", [photo(), regions(detail)]),
      panel(said, truth),
      panel("anomaly map; outlined above the threshold", [photo(), heatOf(row)]),
      neighbour(detail),
    );
  }

  function panel(words, layers) {
    const figure = make("figure"), stack = make("div", "stack"), caption = make("figcaption");
    stack.append(...layers);
    caption.append(words);
    figure.append(stack, caption);
    return figure;
  }

  function neighbour(detail) {
    const found = detail?.neighbours ?? [];
    const chosen = found.find((other) => (other.by === "patch") === byPatch) ?? found[0];
    if (!chosen) return panel("nearest normal image", [make("div", "missing", "none is known")]);
    const figure = panel(`nearest normal by ${chosen.by}: ${chosen.path}`, [
      chosen.picture ? picture(file("images", chosen.picture, "jpg"), chosen.path) : make("div", "missing", "its picture is not here"),
    ]);
    if (found.length > 1) {
      const turn = make("button", "plain", `by ${chosen.by === "text" ? "patch" : "text"} (n)`);
      turn.id = "turn";
      turn.addEventListener("click", otherNeighbour);
      figure.querySelector("figcaption").append(" ", turn);
    }
    figure.id = "neighbour";
    return figure;
  }

  async function otherNeighbour() {
    byPatch = !byPatch;
    const detail = await detailOf(open);
    $("neighbour")?.replaceWith(neighbour(detail));
    $("turn")?.focus();
  }

  const SVG = "http://www.w3.org/2000/svg";
  function regions(detail) {
    const size = detail?.size ?? 1, svg = document.createElementNS(SVG, "svg"), taken = [];
    svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
    svg.id = "regions";
    const add = (tag, attributes) => {
      const element = document.createElementNS(SVG, tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      svg.append(element);
      return element;
    };
    (detail?.reasons ?? []).forEach(({ box: [x0, y0, x1, y1] }, number) => {
      const stroke = COLOURS[number % COLOURS.length], badge = size / 20;
      const region = add("rect", { x: x0, y: y0, width: Math.max(1, x1 - x0), height: Math.max(1, y1 - y0), stroke, class: "region", "data-number": number });
      svg.prepend(region); // the strongest reason's lies on top
      let x = Math.min(Math.max(0, x0), size - badge);
      const y = Math.max(0, y0 - badge);
      while (taken.some(([a, b]) => Math.abs(a - x) < badge && Math.abs(b - y) < badge) && x + 2 * badge <= size) x += badge;
      taken.push([x, y]);
      add("rect", { x, y, width: badge, height: badge, rx: 2, fill: stroke });
      add("text", { x: x + badge / 2, y: y + badge / 2 }).textContent = number + 1;
    });
    return svg;
  }

  function light(number) {
    const svg = $("regions");
    if (!svg) return;
    svg.classList.toggle("some", number !== null);
    for (const region of svg.querySelectorAll(".region")) region.classList.toggle("lit", Number(region.dataset.number) === number && number !== null);
  }

  function reasons(row, detail) {
    const given = detail?.reasons ?? [];
    $("reasons-title").textContent = given.length && !row[ANOMALOUS] ? "Remarked, yet below the threshold" : "Reasons";
    const none = !detail ? "The details of this image could not be loaded." : row[ANOMALOUS] ? "No single reason: the banks together exceed the threshold." : "Nothing was found.";
    $("reasons").replaceChildren(...given.map(({ words }, number) => {
      const item = make("li"), badge = make("span", "number", number + 1);
      badge.style.background = COLOURS[number % COLOURS.length];
      item.tabIndex = 0;
      item.append(badge, make("span", "", words));
      for (const event of ["mouseenter", "focus"]) item.addEventListener(event, () => light(number));
      for (const event of ["mouseleave", "blur"]) item.addEventListener(event, () => light(null));
      return item;
    }), ...(given.length ? [] : [make("li", "", none)]));
    $("shares").replaceChildren(...(detail?.shares ?? []).map(([bank, share]) => {
      const line = make("div", "share"), track = make("div"), bar = make("div");
      bar.style.width = `${100 * share}%`;
      track.append(bar);
      line.append(make("span", "", bank), make("span", "", `${Math.round(100 * share)}%`), track);
      return line;
    }));
  }

  function fields(detail) {
    let previous = null;
    $("fields").tBodies[0].replaceChildren(...(detail?.fields ?? []).map(([name, field, found, normal, nearest, outside]) => {
      const line = make("tr", outside ? "outside" : "");
      line.append(...[name === previous ? "" : name, field, found, normal, nearest].map((words) => make("td", "", words)));
      previous = name;
      return line;
    }));
    const text = detail?.neighbours.find((other) => other.by === "text"), patch = detail?.neighbours.find((other) => other.by === "patch");
    $("nearest").textContent = [text && `Nearest by text, ${text.path}: ${text.says}.`, patch && `Nearest by patch, ${patch.path}: ${patch.says}.`].filter(Boolean).join(" ");
  }

  function step(by) {
    const place = shown.indexOf(open) + by;
    if (shown.indexOf(open) < 0 || place < 0 || place >= shown.length) return;
    move(place, false);
    show(shown[place]);
  }

  // --- state in the address, so that a view can be sent to someone

  function remember() {
    const words = new URLSearchParams();
    for (const name of Object.keys(DEFAULTS)) if (state[name] !== DEFAULTS[name]) words.set(name, state[name]);
    if (open >= 0) words.set("open", rows[open][PICTURE]);
    const hash = words.toString();
    try {
      history.replaceState(null, "", hash ? `#${hash}` : "#");
    } catch { /* a browser that keeps pages from disk from changing their address: the view is not kept, nothing else */ }
  }

  function recall() {
    const words = new URLSearchParams(location.hash.slice(1));
    for (const name of Object.keys(DEFAULTS)) state[name] = words.get(name) ?? DEFAULTS[name];
    if (!(state.sort in SORTS)) state.sort = DEFAULTS.sort;
    update(false);
    unfold(words.get("open"));
  }

  function unfold(wanted) {
    const index = wanted === null ? -1 : rows.findIndex((row) => row[PICTURE] === wanted);
    awaited = index < 0 && rows.length < total ? wanted : null;
    if (index >= 0) show(index);
    else if ($("card").open) $("card").close();
  }

  // --- hands

  function opacity(value) {
    state.opacity = Math.min(100, Math.max(0, value));
    if (state.opacity > 0) heat = state.opacity;
    $("opacity").value = state.opacity;
    $("opacity-value").textContent = `${state.opacity}%`;
    for (const image of document.querySelectorAll("img.heat")) image.style.opacity = state.opacity / 100;
  }

  function set(name, value) {
    state[name] = value;
    update(false);
  }

  function chips(facet, options) {
    $(facet).replaceChildren(...options.map(([value, words, kind]) => {
      const chip = make("button", "chip");
      chip.dataset.facet = facet;
      chip.dataset.value = value;
      if (kind) chip.append(make("span", `dot ${kind}`));
      chip.append(`${words} `, make("b"));
      chip.addEventListener("click", () => set(facet, state[facet] === value ? "" : value));
      return chip;
    }));
  }

  function reset() {
    Object.assign(state, DEFAULTS);
    update(false);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    const typing = event.target.matches("input[type=search], select, input[type=range]");
    const inCard = $("card").open;
    const keys = {
      "h": () => opacity(state.opacity > 0 ? 0 : heat),
      "+": () => opacity(state.opacity + 10),
      "-": () => opacity(state.opacity - 10),
      "?": () => $("help").showModal(),
    };
    if (inCard) Object.assign(keys, { ArrowLeft: () => step(-1), ArrowRight: () => step(1), n: otherNeighbour });
    else {
      const page = Math.max(1, Math.floor($("scroller").clientHeight / (Number($("grid").dataset.side) + LABEL + GAP))) * columns;
      Object.assign(keys, {
        ArrowLeft: () => move(cursor - 1), ArrowRight: () => move(cursor + 1), ArrowUp: () => cursor >= columns && move(cursor - columns),
        ArrowDown: () => move(cursor + columns), Home: () => move(0), End: () => move(shown.length - 1),
        PageUp: () => move(cursor - page), PageDown: () => move(cursor + page),
        "/": () => $("search").focus(), w: () => set("wrong", state.wrong ? "" : "1"),
      });
    }
    if (typing) {
      if (event.key === "Escape" && event.target === $("search")) {
        event.target.blur();
        move(cursor);
      }
      return;
    }
    if (event.key in keys) {
      event.preventDefault();
      keys[event.key]();
    }
  }

  fill($("unit"), [["", "all"], ...DATA.units.map(({ name }, index) => [String(index), name])], "");
  fill($("split"), [["", "all"], ["1", "test"], ["0", "held out"]], "");
  fill($("sort"), Object.entries(SORTS), "high");
  chips("kind", [["", "all"], ...DATA.kinds.map((kind, index) => [String(index), kind, kind])]);
  chips("verdict", [["", "all"], ["1", "anomalous"], ["0", "judged good"]]);
  for (const name of ["unit", "reason", "split", "sort"]) $(name).addEventListener("change", () => set(name, $(name).value));
  $("search").addEventListener("input", () => set("q", $("search").value));
  $("search").addEventListener("keydown", (event) => event.key === "Enter" && move(0));
  $("wrong").addEventListener("click", () => set("wrong", state.wrong ? "" : "1"));
  $("opacity").addEventListener("input", () => opacity(Number($("opacity").value)));
  for (const id of ["reset", "empty-reset"]) $(id).addEventListener("click", reset);
  $("help-button").addEventListener("click", () => $("help").showModal());
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => $("card").close());
  $("card").addEventListener("click", (event) => event.target === $("card") && $("card").close());
  $("card").addEventListener("close", () => {
    open = -1;
    delete $("card").dataset.ready;
    remember();
    move(cursor);
  });
  $("grid").addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    move(Number(tile.dataset.place), false);
    show(Number(tile.dataset.index));
  });
  let pending = 0;
  $("scroller").addEventListener("scroll", () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(draw);
  });
  window.addEventListener("resize", () => { layout(); histogram(); });
  window.addEventListener("hashchange", recall);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", histogram);
  document.addEventListener("keydown", onKey);
  opacity(state.opacity);
  recall();
  load(0);
})();
