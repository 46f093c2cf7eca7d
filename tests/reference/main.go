// The reference hub on a free port, for comparison: DATABASE [CERTIFICATE KEY]. It prints its address. Built with the tag
// v0 and v0.mod, it is the last version of protocol 0.x, else that of 1.0.
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
	options := append(
		keys(),
		mercure.WithLogger(quiet),
		mercure.WithTransport(transport),
		mercure.WithAnonymous(),
		mercure.WithSubscriptions(),
		mercure.WithHeartbeat(time.Hour),
		mercure.WithCORSOrigins([]string{"https://page.example"}),
		mercure.WithPublishOrigins([]string{"https://page.example"}),
	)
	hub, err := mercure.NewHub(context.Background(), options...)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	if len(os.Args) == 4 {
		fmt.Printf("Serving on https://%s\n", listener.Addr())
		log.Fatal(http.ServeTLS(listener, hub, os.Args[2], os.Args[3]))
	}
	fmt.Printf("Serving on http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, hub))
}
