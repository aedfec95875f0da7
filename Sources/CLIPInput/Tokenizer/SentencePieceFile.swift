// A sentencepiece model as it stands in its file (spiece.model, sentencepiece.bpe.model, tokenizer.model).

import Checkpoints

/// The parts of sentencepiece's `ModelProto` that encoding needs, checked as sentencepiece checks them.
struct SentencePieceFile: Sendable {
    enum Kind: UInt64, Sendable { case unigram = 1, bytePair = 2, word = 3, character = 4 }

    struct Piece: Sendable {
        enum Kind: UInt64, Sendable { case normal = 1, unknown, control, userDefined, unused, byte }

        /// UTF-8, not empty.
        var text: [UInt8] = []
        var score: Float = 0
        var kind = Kind.normal
    }

    var name: String
    var pieces: [Piece] = []
    /// Index of the piece for what is unknown.
    var unknownID: Int32 = 0
    /// `trainer_spec.unk_id`: the same, as transformers reads it.
    var trainerUnknownID = 0

    var kind = Kind.unigram
    var fallsBackToBytes = false
    var putsWhitespaceBehind = false

    var characterMap: [UInt8] = []
    var addsDummyPrefix = true
    var removesExtraWhitespace = true
    var escapesWhitespace = true

    /// More pieces are refused: ids must fit the tables of merges.
    private static let mostPieces = 1 << 21

    init(contentsOf path: String) throws(CheckpointError) {
        try self.init(MappedFile(path: path).contents, name: path)
    }

    init(_ bytes: [UInt8], name: String) throws(CheckpointError) {
        self.name = name
        var reader = WireReader(bytes, bytes.indices, name: name)
        while let (field, value) = try reader.next() {
            guard case .bytes(let range) = value else { continue }
            switch field {
            case 1: try readPiece(WireReader(bytes, range, name: name), bytes)
            case 2: try readTrainer(WireReader(bytes, range, name: name))
            case 3: try readNormalizer(WireReader(bytes, range, name: name), bytes)
            default: break
            }
        }
        try check()
    }

    private mutating func readPiece(_ message: WireReader, _ bytes: [UInt8]) throws(CheckpointError) {
        guard pieces.count < Self.mostPieces else {
            throw CheckpointError("\(name) has more than \(Self.mostPieces) pieces: no model of this kind does")
        }
        var message = message
        var piece = Piece()
        while let (field, value) = try message.next() {
            switch (field, value) {
            case (1, .bytes(let range)): piece.text = Array(bytes[range])
            case (2, .word(let bits)): piece.score = Float(bitPattern: bits)
            case (3, .number(let kind)):
                guard let kind = Piece.Kind(rawValue: kind) else {
                    throw CheckpointError("\(name) has a piece of the unknown kind \(kind)")
                }
                piece.kind = kind
            default: break
            }
        }
        pieces.append(piece)
    }

    private mutating func readTrainer(_ message: WireReader) throws(CheckpointError) {
        var message = message
        while let (field, value) = try message.next() {
            guard case .number(let number) = value else { continue }
            switch field {
            case 3:
                guard let kind = Kind(rawValue: number) else {
                    throw CheckpointError("\(name) is a sentencepiece model of the unknown kind \(number)")
                }
                self.kind = kind
            case 24: putsWhitespaceBehind = number != 0
            case 35: fallsBackToBytes = number != 0
            case 40: trainerUnknownID = Int(Int32(truncatingIfNeeded: number))
            default: break
            }
        }
    }

    private mutating func readNormalizer(_ message: WireReader, _ bytes: [UInt8]) throws(CheckpointError) {
        var message = message
        while let (field, value) = try message.next() {
            switch (field, value) {
            case (2, .bytes(let range)): characterMap = Array(bytes[range])
            case (3, .number(let number)): addsDummyPrefix = number != 0
            case (4, .number(let number)): removesExtraWhitespace = number != 0
            case (5, .number(let number)): escapesWhitespace = number != 0
            default: break
            }
        }
    }

    /// What `ModelInterface::InitializePieces` refuses.
    private mutating func check() throws(CheckpointError) {
        guard !pieces.isEmpty else {
            throw CheckpointError("\(name) has no pieces: it is no sentencepiece model, or it was cut off")
        }
        var unknown: Int32?
        var hasByte = [Bool](repeating: false, count: 256)
        for (index, piece) in pieces.enumerated() {
            guard !piece.text.isEmpty, piece.text.count < 1 << 16, !piece.score.isNaN,
                String(validating: piece.text, as: UTF8.self) != nil
            else {
                throw CheckpointError("\(name) is damaged: its piece \(index) is empty, too long, not UTF-8 or no number")
            }
            switch piece.kind {
            case .unknown:
                guard unknown == nil else { throw CheckpointError("\(name) has two pieces for what is unknown") }
                unknown = Int32(index)
            case .byte:
                guard fallsBackToBytes, let byte = Self.byte(of: piece.text) else {
                    throw CheckpointError("\(name) has a piece for a byte, number \(index), that it must not have")
                }
                hasByte[Int(byte)] = true
            default: break
            }
        }
        guard let unknown else { throw CheckpointError("\(name) has no piece for what is unknown") }
        unknownID = unknown
        if fallsBackToBytes, hasByte.contains(false) {
            throw CheckpointError("\(name) falls back to bytes, but lacks pieces for some of them")
        }
    }

    /// The piece that stands for a byte: `<0x0A>`.
    static func text(ofByte byte: UInt8) -> [UInt8] {
        let digits = Array("0123456789ABCDEF".utf8)
        return Array("<0x".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)], UInt8(ascii: ">")]
    }

    private static func byte(of text: [UInt8]) -> UInt8? {
        guard text.count == 6, let value = UInt8(String(decoding: text[3..<5], as: UTF8.self), radix: 16),
            text == Self.text(ofByte: value)
        else { return nil }
        return value
    }
}
