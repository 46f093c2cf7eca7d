/* petasos-client, MIT OR Apache-2.0 */
var n=new URL("../token",import.meta.url),e;document.addEventListener("mercure:refusal",t=>{t.detail.status===401&&(e??=fetch(n,{cache:"no-store"}).catch(()=>{}).finally(()=>e=void 0))});
