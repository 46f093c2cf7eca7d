import { EventSource } from "eventsource";

import { tell, url } from "./tell.js";

new EventSource(url).onmessage = (event) => tell(event.data, event.lastEventId);
