package dibstest

import "context"

var (
	SumReport     = sumReport
	RequireWords  = requireWords
	DockerAnswers = dockerAnswers
)

// Fake is an embedded broker, for a test of what happens when the environment gives one.
type Fake struct{ server *kafkaServer }

func EmbeddedKafka(ctx context.Context) (Fake, error) {
	server, err := embeddedKafka(ctx)
	return Fake{server}, err
}

func (f Fake) Addrs() []string { return f.server.addrs }
func (f Fake) Close() error    { return f.server.close() }
