// The reference hub at its last 0.x version, on a free port, for comparison. It prints its address.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/dunglas/mercure"
)

func main() {
	quiet := slog.New(slog.DiscardHandler)
	transport, err := mercure.NewBoltTransport(mercure.NewSubscriberList(0), quiet, os.Args[1], "updates", 1000, 0)
	if err != nil {
		log.Fatal(err)
	}
	hub, err := mercure.NewHub(
		context.Background(),
		mercure.WithLogger(quiet),
		mercure.WithTransport(transport),
		mercure.WithAnonymous(),
		mercure.WithSubscriptions(),
		mercure.WithHeartbeat(time.Hour),
		mercure.WithPublisherJWT([]byte("publisher key of at least 32 bytes"), "HS256"),
		mercure.WithSubscriberJWT([]byte("subscriber key of at least 32 bytes"), "HS256"),
		mercure.WithCORSOrigins([]string{"https://page.example"}),
		mercure.WithPublishOrigins([]string{"https://page.example"}),
	)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("Serving on http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, hub))
}
