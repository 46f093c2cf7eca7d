package main

import (
	"log"
	"time"

	"clients/tell"

	"github.com/r3labs/sse/v2"
)

// When a connection breaks, this library delivers what came behind the last event, which may be a comment, as a message
// without data. No server can avoid that. Any other message without data is told.
func main() {
	empty := false
	client := sse.NewClient(tell.URL)
	client.ReconnectNotify = func(error, time.Duration) {
		empty = false
	}
	log.Fatal(client.SubscribeRaw(func(event *sse.Event) {
		if empty {
			tell.Message("", "")
		}
		empty = len(event.Data) == 0
		if !empty {
			tell.Message(string(event.Data), string(event.ID))
		}
	}))
}
