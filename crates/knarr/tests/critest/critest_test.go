// Package critest runs upstream's validation of container runtimes, with images that can be made anywhere.
package critest

import (
	"flag"
	"os"
	"testing"
	_ "unsafe" // for go:linkname

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"sigs.k8s.io/cri-tools/pkg/framework"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)

// digest names the image that upstream's suite knows by the digest of bytes that only upstream's registry has.
var digest = flag.String("image-digest", "", "the digest of test-image-digest in the registry that is used")

//go:linkname testImageWithDigest sigs.k8s.io/cri-tools/pkg/validate.testImageWithDigest
var testImageWithDigest string

func init() {
	framework.RegisterFlags()
	framework.AddBeforeSuiteCallback(func() {
		if *digest != "" {
			testImageWithDigest = "gcr.io/k8s-staging-cri-tools/test-image-digest@" + *digest
		}
	})
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

func TestCRI(t *testing.T) {
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "CRI validation")
}
