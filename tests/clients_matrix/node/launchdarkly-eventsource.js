import { EventSource } from "launchdarkly-eventsource";

import { tell, url } from "./tell.js";

const source = new EventSource(url);
source.onmessage = (event) => tell(event.data, event.lastEventId);
source.onerror = () => {};
