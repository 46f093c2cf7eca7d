//go:build v0

package main

import "github.com/dunglas/mercure"

func keys() []mercure.Option {
	return []mercure.Option{
		mercure.WithPublisherJWT([]byte("publisher key of at least 32 bytes"), "HS256"),
		mercure.WithSubscriberJWT([]byte("subscriber key of at least 32 bytes"), "HS256"),
	}
}
