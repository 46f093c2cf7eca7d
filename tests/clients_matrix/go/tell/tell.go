// Package tell does with what a library delivers what every client does: a line of JSON for the test.
package tell

import (
	"encoding/json"
	"net/http"
	"os"
)

// The libraries use the transport that all have by default.
func init() {
	protocols := new(http.Protocols)
	switch os.Getenv("SPEAKS") {
	case "h2":
		protocols.SetHTTP2(true)
	case "h2c":
		protocols.SetUnencryptedHTTP2(true)
	default:
		protocols.SetHTTP1(true)
	}
	http.DefaultTransport.(*http.Transport).Protocols = protocols
}

// URL is where the stream is.
var URL = os.Args[1]

// Message writes the line, and ends the client with the last message.
func Message(data, id string) {
	var message map[string]any
	if json.Unmarshal([]byte(data), &message) != nil {
		write(map[string]any{"broken": data})
		return
	}
	write(map[string]any{"message": message, "id": id})
	if message["last"] != nil {
		os.Exit(0)
	}
}

func write(line any) {
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		os.Exit(1)
	}
}
