package main

import (
	"log"
	"net/http"

	"clients/tell"

	"github.com/tmaxmax/go-sse"
)

func main() {
	request, err := http.NewRequest(http.MethodGet, tell.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	connection := sse.NewConnection(request)
	connection.SubscribeToAll(func(event sse.Event) {
		tell.Message(event.Data, event.LastEventID)
	})
	log.Fatal(connection.Connect())
}
