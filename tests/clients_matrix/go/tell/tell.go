// Package tell does with what a library delivers what every client does: a line of JSON for the test.
package tell

import (
	"encoding/json"
	"os"
)

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
