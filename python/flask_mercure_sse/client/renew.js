/* petasos-client, MIT OR Apache-2.0 */
var e,t=new URL("../token",import.meta.url);document.addEventListener("mercure:refusal",a=>{401===a.detail.status&&(e??=fetch(t,{cache:"no-store"}).catch(()=>{}).finally(()=>e=void 0))});
