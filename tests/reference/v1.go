//go:build !v0

package main

import "github.com/dunglas/mercure"

func keys() []mercure.Option {
	return []mercure.Option{
		mercure.WithIssuers([]mercure.Issuer{{
			Identifier: "https://issuer.example",
			Publisher:  mercure.Static{Key: []byte("publisher key of at least 32 bytes"), Algorithm: "HS256"},
			Subscriber: mercure.Static{Key: []byte("subscriber key of at least 32 bytes"), Algorithm: "HS256"},
		}}),
		mercure.WithResourceIdentifier("https://hub.example/.well-known/mercure"),
	}
}
