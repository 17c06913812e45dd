module berth.dev/go/grpc

go 1.25.0

require (
	berth.dev/go v0.0.0
	google.golang.org/grpc v1.85.0
)

replace berth.dev/go => ../
