import { createEventSource } from "eventsource-client";

import { tell, url } from "./tell.js";

for await (const { data, id } of createEventSource({ url })) {
  tell(data, id);
}
