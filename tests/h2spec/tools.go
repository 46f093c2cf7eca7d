//go:build tools

// The versions of h2spec, which asks a hub all that RFC 9113 says, and of what it needs: it has no module file of its own.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
