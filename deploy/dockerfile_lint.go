// The rules of `docker build --check` without an engine: BuildKit's own linter on one file, the base image taken as given.
// Built by image_check.sh inside Docker Compose's module, which already depends on BuildKit.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/opencontainers/go-digest"
)

// anyImage answers for every base image, so that nothing is asked of a registry.
type anyImage struct{}

func (anyImage) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, digest.FromString(ref), []byte(`{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/bin"]}}`), nil
}

func lint(path string) (int, error) {
	ctx := context.Background()
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	state := llb.Scratch()
	source := llb.NewSourceMap(&state, path, "Dockerfile", text)
	if source.Definition, err = state.Marshal(ctx); err != nil {
		return 0, err
	}
	options := dockerfile2llb.ConvertOpt{SourceMap: source, MetaResolver: anyImage{}}
	results, err := dockerfile2llb.DockerfileLint(ctx, text, options)
	if err == nil && results.Error != nil {
		err = fmt.Errorf("%s", results.Error.Message)
	}
	if err != nil {
		return 0, err
	}
	for _, warning := range results.Warnings {
		fmt.Printf("%s: %s\n", warning.RuleName, warning.Detail)
	}
	return len(results.Warnings), nil
}

func main() {
	warnings, err := lint(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if warnings > 0 {
		os.Exit(1)
	}
}
