package main

import (
	"log"

	"clients/tell"

	"github.com/launchdarkly/eventsource"
)

func main() {
	stream, err := eventsource.Subscribe(tell.URL, "")
	if err != nil {
		log.Fatal(err)
	}
	for {
		select {
		case event := <-stream.Events:
			tell.Message(event.Data(), event.Id())
		case <-stream.Errors:
			// It connects again by itself.
		}
	}
}
