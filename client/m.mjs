import { build } from "esbuild"; import { gzipSync } from "node:zlib"; import {writeFileSync, readFileSync} from "node:fs";
const N=`told left isMultiplex isLive isMerged isTooLarge selectors begun changed received lost refused hear moveTo tell tellAll enterAll enter catchUps waiting welcome settle detach plan members accepted heard offer shared owner covered separate entered lead follow gone watch leave hasComment sizeMax onEmpty home take wake areThere listener refusal wanted source membersFor forget lane move notify stop find hub key begin`.split(" ");

const r = await build({bundle:true,format:"esm",target:"es2022",legalComments:"none",write:false,minify:true,entryPoints:["src/index.ts"],mangleProps:new RegExp(`^(${N.join("|")})$`)});
const t=r.outputFiles[0].text; writeFileSync("/tmp/out.js",t); console.log(t.length, gzipSync(t,{level:9}).length);
