// Inputs to embeddings, in order and in bounded memory: decoding and tokenizing run beside computing.

/// What became of one input.
public struct EmbeddingResult: Sendable {
    /// The input's name.
    public let name: String
    /// Which tower it went through.
    public let kind: EmbeddingInput.Kind
    /// The vector, or why there is none.
    public let embedding: Result<ArraySlice<Float>, CLIPError>
}

extension CLIP {
    /// Embeds any number of inputs and hands over the results in the order of the inputs.
    ///
    /// An input that fails does not stop the others: its result holds the error. Memory stays bounded: at most a few
    /// batches of decoded inputs wait at any time.
    ///
    /// - Parameters:
    ///   - inputs: what to embed; read lazily.
    ///   - batchSize: inputs computed together; by default what fills the device.
    ///   - normalized: vectors of unit length; otherwise features as the model gives them.
    ///   - options: how pictures and texts are prepared.
    ///   - shouldStop: asked between inputs; once true, what is under way is dropped and the call returns.
    ///   - onResult: called for each input in order; an error it throws ends the run and is thrown on.
    /// - Throws: `CLIPError` when the device fails, and what `onResult` throws.
    public func embed(
        _ inputs: some Sequence<EmbeddingInput>, batchSize: Int? = nil, normalized: Bool = true,
        options: PreparationOptions = PreparationOptions(), shouldStop: () -> Bool = { false },
        onResult: (EmbeddingResult) throws -> Void
    ) throws {
        let largestBatch = batchSize ?? max(preferredBatchSize(.image), preferredBatchSize(.text))
        var preparation = PreparationQueue(inputs, preparer(options), window: (devices.count + 1) * largestBatch + 8)
        var group = Group()
        var running = Queue<(group: Group, job: CLIP.Job?)>()

        func drain(downTo limit: Int) throws {
            while running.count > limit || running.first?.job?.isFinished == true,
                let (group, job) = running.popFirst()
            {
                var values: [Float] = []
                if let job { values = try finish(job, normalized: normalized) }
                for entry in group.entries {
                    let embedding = entry.outcome.flatMap { row -> Result<ArraySlice<Float>, CLIPError> in
                        let vector = values[(row * embeddingDimension)..<((row + 1) * embeddingDimension)]
                        return vector.allSatisfy(\.isFinite) ? .success(vector) : .failure(.notFinite(entry.name))
                    }
                    try onResult(EmbeddingResult(name: entry.name, kind: entry.kind, embedding: embedding))
                }
            }
        }
        func closeGroup(isLast: Bool = false) throws {
            if group.entries.isEmpty { return }
            // A group that is not full ends where inputs of another kind begin: its rows are what comes next.
            let isFull = group.count >= batchSize ?? preferredBatchSize(group.entries[0].kind)
            let alone = running.count == 0 && (isLast || !isFull)
            running.append((group, try group.batch.map { try begin($0, alone: alone) }))
            group = Group()
            try drain(downTo: jobsInFlight - 1)
        }

        while !shouldStop(), let (input, prepared) = preparation.next() {
            if !group.accepts(prepared, limit: batchSize ?? preferredBatchSize(input.kind)) { try closeGroup() }
            group.append(input, prepared)
        }
        if shouldStop() { return }
        try closeGroup(isLast: true)
        try drain(downTo: 0)
    }
}

/// Inputs that are computed together, with the failed ones among them in their places.
private struct Group {
    var entries: [(name: String, kind: EmbeddingInput.Kind, outcome: Result<Int, CLIPError>)] = []
    var batch: EmbeddingBatch?
    var count = 0

    func accepts(_ prepared: PreparedInput, limit: Int) -> Bool {
        switch (batch, prepared) {
        case (_, .failure): entries.count < limit + 1024
        case (.none, _): true
        case (.bytes, .bytes), (.floats, .floats), (.tokens, .tokens): count < limit
        default: false
        }
    }

    mutating func append(_ input: EmbeddingInput, _ prepared: PreparedInput) {
        let row = count
        let previous = batch
        batch = .none  // So that the arrays below are not copied.
        switch (previous, prepared) {
        case (_, .failure(let error)):
            batch = previous
            entries.append((input.name, input.kind, .failure(error)))
            return
        case (.bytes(var bytes), .bytes(let picture)):
            bytes.append(contentsOf: picture)
            batch = .bytes(bytes)
        case (.floats(var floats), .floats(let picture)):
            floats.append(contentsOf: picture)
            batch = .floats(floats)
        case (.tokens(var tokens), .tokens(let text)):
            tokens.append(text)
            batch = .tokens(tokens)
        case (_, .bytes(let picture)): batch = .bytes(picture)
        case (_, .floats(let picture)): batch = .floats(picture)
        case (_, .tokens(let text)): batch = .tokens([text])
        }
        count += 1
        entries.append((input.name, input.kind, .success(row)))
    }
}
