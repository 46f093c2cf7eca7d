// Builds the client: the files that browsers get, for npm (dist) and for the Python package, where they are committed.
//
//   node build.mjs            builds both
//   node build.mjs --dist     builds dist only
//   node build.mjs --check    checks types and sizes, and that the committed files are fresh
//   node build.mjs --tests    builds the tests, into dist/test

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

const CLIENT = dirname(fileURLToPath(import.meta.url));
const DIST = join(CLIENT, "dist");
const COMMITTED = join(process.env.PETASOS_CLIENT_REPOSITORY ?? join(CLIENT, ".."), "python/flask_mercure_sse/client");
const CORE = "petasos-client.js";
/** The most bytes of a file, compressed. */
const CORE_MAX = 6.5 * 1024;
const ADAPTER_MAX = 1024;

const COMMON = { bundle: true, format: "esm", target: "es2022", legalComments: "none", write: false, logLevel: "warning" };

/** Properties that only the client itself uses: they get short names. None may be a name of the browser or of the API. */
const INTERNAL = `isMultiplex isLive isMerged isTooLarge selectors changed received told hear moveTo tell tellAll enterAll enter catchUps waiting
  welcome settle detach plan members accepted heard offer shared owner covered covers entered lead follow gone denied watch
  resign leave left hasComment sizeMax home take wake check listener refusal wanted source membersFor lane notify hub key position
  move stop options opened refused unanswered retarget store`.split(/\s+/);
const CORE_OPTIONS = {
  mangleProps: new RegExp(`^(${INTERNAL.join("|")})$`),
  tsconfigRaw: { compilerOptions: { useDefineForClassFields: false } },
};

const BANNER = "/* petasos-client, MIT OR Apache-2.0 */";

/** Adapters import the core and each other as files beside them. */
const beside = {
  name: "beside",
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.?\// }, ({ path, kind }) => {
      if (kind === "entry-point") return undefined;
      if (path === "../index.js") return { path: `./${CORE}`, external: true };
      // What several adapters share, in src/page, is in the file of each.
      const isAdapter = path.startsWith("./") && existsSync(join(CLIENT, "src/adapters", path.replace(/\.js$/, ".ts")));
      return isAdapter ? { path, external: true } : undefined;
    });
  },
};

async function bundled(entry, options = {}) {
  const { outputFiles } = await build({ ...COMMON, entryPoints: [join(CLIENT, entry)], minify: true, ...options });
  // It takes off another twentieth.
  const { code } = await minify(outputFiles[0].text, { module: true, ecma: 2022, compress: { passes: 4 } });
  return `${BANNER}\n${code}\n`;
}

/** The files that browsers get: name and text. */
async function files() {
  const found = new Map([[CORE, await bundled("src/index.ts", CORE_OPTIONS)]]);
  for (const file of readdirSync(join(CLIENT, "src/adapters")).sort())
    if (file.endsWith(".ts")) found.set(file.replace(/\.ts$/, ".js"), await bundled(`src/adapters/${file}`, { plugins: [beside] }));
  return found;
}

function write(folder, name, text) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), text);
}

function types(project) {
  const { status } = spawnSync(join(CLIENT, "node_modules/.bin/tsc"), ["-p", join(CLIENT, project)], { stdio: "inherit" });
  if (status !== 0) process.exit(1);
}

function checkSizes(built) {
  let isGood = true;
  for (const [name, text] of built) {
    const [size, max] = [gzipSync(text, { level: 9 }).length, name === CORE ? CORE_MAX : ADAPTER_MAX];
    console.log(`${name}: ${text.length} bytes, ${size} compressed (at most ${max})`);
    isGood &&= size <= max;
  }
  if (!isGood) throw new Error("a file is too large");
}

function checkCommitted(built) {
  const committed = existsSync(COMMITTED) ? readdirSync(COMMITTED).filter((name) => name.endsWith(".js")) : [];
  const names = new Set([...built.keys(), ...committed]);
  const isStale = (name) => !committed.includes(name) || readFileSync(join(COMMITTED, name), "utf8") !== built.get(name);
  const stale = [...names].filter(isStale);
  if (stale.length) throw new Error(`not what client/ builds: ${stale.join(", ")}: run "npm run build" in client/ and commit them`);
}

async function buildTests() {
  const folder = join(DIST, "test");
  rmSync(folder, { recursive: true, force: true });
  for (const file of readdirSync(join(CLIENT, "test")))
    if (file.endsWith(".test.ts")) {
      const options = { ...COMMON, entryPoints: [join(CLIENT, "test", file)], platform: "node", sourcemap: "inline" };
      const { outputFiles } = await build(options);
      write(folder, basename(file).replace(/\.ts$/, ".js"), outputFiles[0].text);
    }
}

if (process.argv.includes("--tests")) {
  await buildTests();
} else {
  const built = await files();
  if (process.argv.includes("--check")) {
    types("tsconfig.json");
    checkSizes(built);
    checkCommitted(built);
  } else {
    const folders = process.argv.includes("--dist") ? [DIST] : [DIST, COMMITTED];
    rmSync(DIST, { recursive: true, force: true });
    for (const folder of folders) {
      for (const name of existsSync(folder) ? readdirSync(folder) : [])
        if (name.endsWith(".js") && !built.has(name)) rmSync(join(folder, name));
      for (const [name, text] of built) write(folder, name, text);
    }
    types("tsconfig.build.json");
    checkSizes(built);
  }
}
