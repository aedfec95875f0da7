// clip-gpu serve: embeddings over HTTP.

import ArgumentParser
import CLIPGPU
import CLIPServer
import Dispatch
import Synchronization

struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Embeddings over HTTP, as OpenAI's /v1/embeddings has them, of pictures too.",
        discussion: """
            What many clients ask at once is computed together. An input is a sentence, {"image": Base64}, or a \
            data:image/… URI; a body of the type image/jpeg and the like is one picture. Vectors have unit length.

              POST /v1/embeddings  input; if wanted model, encoding_format, truncate,
                                   normalize, modality
              GET  /v1/models      the model, its dimension and its logit scale
              GET  /health         {"status": "ok"}
              GET  /metrics        requests, inputs and batches, for Prometheus

            An interrupt or a termination ends it when all that was asked is answered; the exit code is 0 then. There is no \
            encryption and no password: beyond this machine, put a proxy before it.

            Examples:
              clip-gpu serve --model ViT-B/32
              curl localhost:8000/v1/embeddings -d '{"input": "a photo of a cat"}'
              curl localhost:8000/v1/embeddings -H 'Content-Type: image/jpeg' \\
                --data-binary @cat.jpg
            """)

    @Option(name: .long, help: "The address to listen at; 0.0.0.0 is every address of this machine.")
    var host = "127.0.0.1"

    @Option(name: .long, help: "The port to listen at; 0 is one that is free, which is said.")
    var port = 8000

    @Option(name: .long, help: ArgumentHelp("Refuse longer bodies, in MiB.", valueName: "size"))
    var bodyLimit = 64

    @Option(
        name: .long,
        help: ArgumentHelp("Refuse requests (503) while more inputs than this wait for the device.", valueName: "count")
    )
    var waitingLimit = 4096

    @OptionGroup(title: "Pictures") var pictures: PictureOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Device") var compute: ComputeOptions

    func validate() throws {
        if !(0...65535).contains(port) { throw ValidationError("--port takes a number from 0 to 65535, not \(port).") }
        if !(1...4096).contains(bodyLimit) {
            throw ValidationError("--body-limit takes a number of MiB from 1 to 4096, not \(bodyLimit).")
        }
        if waitingLimit < 1 { throw ValidationError("--waiting-limit takes a number from 1, not \(waitingLimit).") }
    }

    func run() throws {
        let service = CLIPService(try compute.load(model), options: pictures.preparation, batchSize: compute.batchSize)
        try Interruption.check(kept: "nothing was served yet")
        let api = EmbeddingAPI(service, names: model.servedNames, mostWaiting: waitingLimit)
        let server = HTTPServer(host: host, port: port, bodyLimit: bodyLimit << 20)
        let host = host
        try blocking {
            try await server.run(
                shouldStop: { Interruption.happened },
                onListening: { Terminal.say("listening: http://\(host.contains(":") ? "[\(host)]" : host):\($0)") },
                tooLong: EmbeddingAPI.tooLong(limit: server.bodyLimit), respond: { await api.respond(to: $0) })
        }
        let served = service.statistics
        Terminal.say(
            "served \(served.images + served.texts) in \(served.batches) \(served.batches == 1 ? "batch" : "batches")")
    }

    /// Waits, on this thread, for what others do.
    private func blocking(_ body: @escaping @Sendable () async throws -> Void) throws {
        let failure = Mutex<(any Error)?>(nil)
        let done = DispatchSemaphore(value: 0)
        Task.detached {
            do { try await body() } catch { failure.withLock { $0 = error } }
            done.signal()
        }
        done.wait()
        if let error = failure.withLock({ $0 }) {
            throw Failure(.usage, "cannot listen at \(host), port \(port): \(error); choose another --host or --port.")
        }
    }
}
