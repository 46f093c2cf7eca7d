// It sends its cursor as the query parameter "lastEventId", beside any that its URL has already.
import polyfill from "event-source-polyfill";

import { tell, url } from "./tell.js";

new polyfill.EventSourcePolyfill(url).onmessage = (event) => tell(event.data, event.lastEventId);
