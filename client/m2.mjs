import { build } from "esbuild"; import { gzipSync } from "node:zlib"; import {readFileSync, writeFileSync} from "node:fs";
const r = await build({bundle:true,format:"esm",target:"es2022",write:false,minify:true,entryPoints:["src/index.ts"],metafile:true});
const o=Object.values(r.metafile.outputs)[0]; for (const [k,v] of Object.entries(o.inputs)) console.log(k, v.bytesInOutput);
