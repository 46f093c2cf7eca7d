import EventSource from "eventsource-2";

import { tell, url } from "./tell.js";

new EventSource(url).onmessage = (event) => tell(event.data, event.lastEventId);
