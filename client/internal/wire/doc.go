// Package wire is the API as its document describes it: types and calls, all generated. Package client is the face.
package wire

//go:generate go tool oapi-codegen -config oapi-codegen.yaml ../../../api/openapi.yaml
