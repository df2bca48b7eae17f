// One spoken question and one spoken reply over gRPC. Of the server it needs the protos only.
//
//	talk 127.0.0.1:50051 amber ../../samples/question_make_taco.wav reply.wav
//
// A server on this machine is reached without TLS. Any other server is reached over TLS. The environment may hold
// CHROMA_API_KEY, the caller's key, and CHROMA_TLS_CA, a PEM file with the authority of the server's certificate.
package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	chroma "chroma/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/local"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	replyRateHz = 24000
	pieceBytes  = 32768
)

// wavFormat is the `fmt ` chunk of a WAV file, without the tag of its encoding.
type wavFormat struct {
	Channels   uint16
	RateHz     uint32
	ByteRate   uint32
	BlockBytes uint16
	SampleBits uint16
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: talk HOST:PORT VOICE QUESTION.wav REPLY.wav")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, describe(err))
		os.Exit(1)
	}
}

// run asks the question in one file and writes the reply's sound to another.
func run(address, voice, question, reply string) error {
	rateHz, samples, err := readWAV(question)
	if err != nil {
		return err
	}
	transport, err := transportCredentials(address)
	if err != nil {
		return err
	}
	connection, err := grpc.Dial(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // cancelling the call frees all that the server holds for it
	if key := os.Getenv("CHROMA_API_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	sound, err := ask(ctx, chroma.NewDialogueServiceClient(connection), voice, rateHz, samples)
	if err != nil {
		return err
	}
	if err := os.WriteFile(reply, wav(sound), 0o666); err != nil {
		return err
	}
	fmt.Printf("\n%s: %.2f s\n", reply, float64(len(sound))/2/replyRateHz)
	return nil
}

// transportCredentials returns TLS, or plain connections for a server on this machine.
func transportCredentials(address string) (credentials.TransportCredentials, error) {
	authority := os.Getenv("CHROMA_TLS_CA")
	if authority == "" && isLoopback(address) {
		return local.NewCredentials(), nil // refuses a peer that is not on this machine
	}
	if authority == "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			return nil, err
		}
		return credentials.NewClientTLSFromCert(roots, ""), nil
	}
	return credentials.NewClientTLSFromFile(authority, "")
}

func isLoopback(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// ask has one turn. It prints the text of the reply while it comes and returns its samples.
func ask(
	ctx context.Context, client chroma.DialogueServiceClient, voice string, rateHz uint32, samples []byte,
) ([]byte, error) {
	call, err := client.Converse(ctx)
	if err != nil {
		return nil, err
	}
	go send(call, voice, rateHz, samples)
	var sound []byte
	for {
		message, err := call.Recv()
		if err != nil {
			return nil, err // the status of the call
		}
		switch event := message.Response.(type) {
		case *chroma.ConverseResponse_Text:
			fmt.Print(event.Text.Text)
		case *chroma.ConverseResponse_Audio:
			sound = append(sound, event.Audio.Pcm.Data...)
		case *chroma.ConverseResponse_TurnDone:
			return sound, turnError(event.TurnDone)
		}
	}
}

// send sends the question. When a write fails, the call has ended, and Recv returns its status.
func send(call chroma.DialogueService_ConverseClient, voice string, rateHz uint32, samples []byte) {
	config := &chroma.SessionConfig{VoiceId: voice}
	if limit, err := strconv.ParseFloat(os.Getenv("MAX_REPLY_S"), 64); err == nil {
		config.MaxReplyS = proto.Float64(limit)
	}
	open := &chroma.ConverseOpen{
		Session:     &chroma.ConverseOpen_NewSession{NewSession: config},
		InputFormat: &chroma.AudioFormat{Encoding: chroma.AudioEncoding_AUDIO_ENCODING_PCM_S16LE, SampleRateHz: rateHz},
		MaxLeadS:    proto.Float64(0), // as fast as possible: the reply goes to a file
	}
	if call.Send(&chroma.ConverseRequest{Request: &chroma.ConverseRequest_Open{Open: open}}) != nil {
		return
	}
	for len(samples) > 0 {
		piece := samples
		if len(piece) > pieceBytes {
			piece = piece[:pieceBytes]
		}
		if call.Send(&chroma.ConverseRequest{Request: &chroma.ConverseRequest_Audio{Audio: piece}}) != nil {
			return
		}
		samples = samples[len(piece):]
	}
	commit := &chroma.ConverseRequest_Commit{Commit: &chroma.CommitTurn{}}
	if call.Send(&chroma.ConverseRequest{Request: commit}) == nil {
		call.CloseSend() // this conversation has one turn
	}
}

// turnError returns the failure of a turn as an error with its gRPC status, or nil.
func turnError(done *chroma.TurnDone) error {
	if done.Outcome == chroma.TurnOutcome_TURN_OUTCOME_COMPLETED {
		return nil
	}
	if done.Error != nil {
		return status.Error(codes.Code(done.Error.Code), done.Error.Message)
	}
	return errors.New("the reply was interrupted")
}

func describe(err error) string {
	if failed, ok := status.FromError(err); ok {
		return fmt.Sprintf("%s: %s", failed.Code(), failed.Message())
	}
	return err.Error()
}

// readWAV reads a mono 16-bit WAV file: its rate and its samples.
func readWAV(path string) (uint32, []byte, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return 0, nil, err
	}
	reader := bytes.NewReader(file)
	reader.Seek(12, io.SeekStart) // "RIFF", a length, "WAVE"
	var format wavFormat
	for {
		var header struct {
			Name  [4]byte
			Bytes uint32
		}
		if err := binary.Read(reader, binary.LittleEndian, &header); err != nil {
			return 0, nil, fmt.Errorf("%s has no sound", path)
		}
		chunk := make([]byte, min(int64(header.Bytes), int64(reader.Len())))
		io.ReadFull(reader, chunk)
		switch string(header.Name[:]) {
		case "fmt ":
			var tag uint16
			fields := bytes.NewReader(chunk)
			binary.Read(fields, binary.LittleEndian, &tag)
			binary.Read(fields, binary.LittleEndian, &format)
			if tag != 1 || format.Channels != 1 || format.SampleBits != 16 {
				return 0, nil, fmt.Errorf("%s is not mono 16-bit PCM", path)
			}
		case "data":
			return format.RateHz, chunk, nil
		}
		reader.Seek(int64(header.Bytes%2), io.SeekCurrent) // chunks begin at even places
	}
}

// wav makes a WAV file of the reply's samples.
func wav(samples []byte) []byte {
	var file bytes.Buffer
	write := func(value interface{}) { binary.Write(&file, binary.LittleEndian, value) }
	file.WriteString("RIFF")
	write(uint32(36 + len(samples)))
	file.WriteString("WAVEfmt ")
	write(uint32(16))
	write(uint16(1)) // PCM
	write(wavFormat{Channels: 1, RateHz: replyRateHz, ByteRate: 2 * replyRateHz, BlockBytes: 2, SampleBits: 16})
	file.WriteString("data")
	write(uint32(len(samples)))
	file.Write(samples)
	return file.Bytes()
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
