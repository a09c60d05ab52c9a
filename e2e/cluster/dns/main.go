// Command dns is CoreDNS with the few plugins that a cluster needs; its own main links clients of several clouds.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order in which they see a question, as in the original: names that are rewritten go first, then the machine's own.
	dnsserver.Directives = []string{"bind", "errors", "rewrite", "hosts", "kubernetes", "template"}
	coremain.Run()
}
