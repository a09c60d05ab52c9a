// Package conformance is the official conformance suite of Gateway API as a test binary.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

// TestConformance runs what the suite's own flags ask for; `cargo e2e conformance` sets them.
func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
