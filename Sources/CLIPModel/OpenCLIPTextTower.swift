// What open_clip's `text_cfg` says of the text tower: its own, or the encoder of a model of transformers, XLM-RoBERTa or mT5.
import CLIPCompute
import Checkpoints

extension OpenCLIPReader {
    private static let mostResizedTokens = 4096

    mutating func textTower(outputs: Int) throws(ModelError) -> TextConfiguration {
        guard let borrowed = try borrowedModel() else { return try ownTextTower(outputs: outputs) }
        return try borrowedTextTower(borrowed.configuration, borrowed.type, outputs: outputs)
    }

    private mutating func ownTextTower(outputs: Int) throws(ModelError) -> TextConfiguration {
        let prefix = shapes.names.textPrefix
        let width = try shapes.size(prefix + "token_embedding.weight", 1, of: 2)
        let transformer = try transformer(
            text, prefix + "transformer", tower: "text", width: width,
            heads: try text.integer("heads", default: 8), headsFrom: text.source("heads"))
        check(text, "width", try text.integer("width", default: 512), width, "text width")
        let vocabulary = try shapes.dimension(prefix + "token_embedding.weight", 0, of: 2, "vocabulary")
        check(text, "vocab_size", try text.integer("vocab_size", default: 49408), vocabulary, "vocabulary")
        let hasClassToken = try text.flag("embed_cls")
        let padding = try text.integer("pad_id", default: 0, least: 0)
        guard padding < vocabulary else { throw ModelError("\(text.source("pad_id")) is no token") }
        if hasClassToken, padding != 0 {
            throw ModelError(
                "\(text.source("pad_id")) says \(padding) beside embed_cls, but CLIP's tokenizer fills up with 0")
        }
        let context = try text.integer("context_length", default: 77)
        let stored = try shapes.size(prefix + "positional_embedding", 0, of: 2)
        shapes.note("context length", "\(context)", text.source("context_length"))
        var storedPositions: Int?
        if stored != context + (hasClassToken ? 1 : 0) {
            storedPositions = stored
            guard context <= Self.mostResizedTokens else {
                throw ModelError(
                    "\(text.source("context_length")) says \(context) tokens, and positions are resized to at most "
                        + "\(Self.mostResizedTokens)")
            }
            shapes.note(
                "text positions", "resized from \(stored) to \(context + (hasClassToken ? 1 : 0))",
                "the shape of \(prefix)positional_embedding")
        }
        let isCausal = try !text.flag("no_causal_mask")
        shapes.note("text mask", isCausal ? "causal" : "none", text.source("no_causal_mask"))
        let pooling = try hasClassToken ? .classToken : ownPooling()
        let kind = hasClassToken ? "a class token behind the text" : try text.string("pool_type", default: "argmax")
        shapes.note("text pooling", kind, text.source(hasClassToken ? "embed_cls" : "pool_type"))
        return TextConfiguration(
            transformer: transformer, vocabularySize: vocabulary, contextLength: context, pooling: pooling,
            isCausal: isCausal, outputs: outputs, projection: try ownProjection(width: width, outputs: outputs),
            storedPositions: storedPositions, paddingID: Int32(padding))
    }

    private mutating func ownPooling() throws(ModelError) -> TextConfiguration.Pooling {
        switch try text.string("pool_type", default: "argmax") {
        case "argmax": return .greatestID
        case "eos":
            // open_clip's default of 2 is right for no model but XLM-V's, whose files say so.
            guard let id = Int32(exactly: try text.integer("eos_id", default: 2, least: 0)) else {
                throw ModelError("\(text.source("eos_id")) is no token")
            }
            shapes.note("end of text", "\(id)", text.source("eos_id"))
            return .first(id)
        case "first": return .start
        case "last": return .end
        case let other:
            throw ModelError(
                "\(text.source("pool_type")) says \(quoted(other)); known are \"argmax\", \"eos\", \"first\" and "
                    + "\"last\"")
        }
    }

    private mutating func ownProjection(width: Int, outputs: Int) throws(ModelError) -> TextConfiguration.Projection {
        switch try text.string("proj_type", default: "linear") {
        case "linear":
            let names = shapes.names
            if try text.flag("proj_bias") != names.projectionIsLinear {
                contradictions.append(
                    "\(text.source("proj_bias")) says \(try text.flag("proj_bias")), but "
                        + "\(names.textPrefix)text_projection is "
                        + (names.projectionIsLinear ? "a linear with bias" : "a matrix"))
            }
            return .linear
        case "none":
            if width != outputs {
                contradictions.append(
                    "\(text.source("proj_type")) is \"none\", and the text width \(width) is not the embedding width")
            }
            return .none
        case let other:
            throw ModelError(
                "\(text.source("proj_type")) says \(quoted(other)); known are \"linear\" and \"none\"")
        }
    }

    // MARK: Towers of transformers'

    /// What config.json of the models that open_clip names says on the Hugging Face hub, as far as tensors and
    /// transformers' defaults do not.
    private static let knownModels = [
        "xlm-roberta-base": #"{"model_type": "xlm-roberta", "num_attention_heads": 12, "layer_norm_eps": 1e-5}"#,
        "xlm-roberta-large": #"{"model_type": "xlm-roberta", "num_attention_heads": 16, "layer_norm_eps": 1e-5}"#,
        "google/mt5-base": #"{"model_type": "mt5", "num_heads": 12}"#,
        "google/mt5-xl": #"{"model_type": "mt5", "num_heads": 32}"#,
    ]

    /// Which model of transformers the text tower is: its configuration, from a folder beside ours or anywhere, or a known
    /// one.
    func borrowedModel() throws(ModelError) -> (configuration: OpenCLIPSection, type: String)? {
        let source = text.source("hf_model_name")
        guard let value = text["hf_model_name"] else { return nil }
        guard let name = value.string else { throw ModelError("\(source) is not a string") }
        let folders = [folder.map { $0 + name }, name].compactMap(\.self)
        let hf: OpenCLIPSection
        if let path = folders.first(where: { MappedFile.exists($0 + "/config.json") }) {
            hf = try OpenCLIPSection(
                file: HuggingFaceFolder.json(path + "/config.json"), "\(name)/config.json", library: "transformers")
        } else if let known = Self.knownModels[name],
            case .success(let values) = Result(catching: {
                try Array(known.utf8).withUnsafeBytes { try JSON(parsing: $0) }
            })
        {
            hf = try OpenCLIPSection(file: values, "config.json of \(name)", library: "transformers")
        } else {
            throw ModelError(
                "\(source) says \(quoted(name)): of transformers' text towers those of XLM-RoBERTa and mT5 can be opened, "
                    + "given as a folder with a config.json or as one of "
                    + Self.knownModels.keys.sorted().joined(separator: ", "))
        }
        let type = try hf.string("model_type", default: "")
        guard type == "xlm-roberta" || type == "mt5" else {
            throw ModelError(
                "\(hf.source("model_type")) is \(quoted(type)): of transformers' text towers those of XLM-RoBERTa and mT5 "
                    + "can be opened")
        }
        return (hf, type)
    }

    /// `HFTextEncoder`.
    private mutating func borrowedTextTower(
        _ hf: OpenCLIPSection, _ type: String, outputs: Int
    ) throws(ModelError) -> TextConfiguration {
        let context = try text.integer("context_length", default: 77)
        shapes.note("context length", "\(context)", text.source("context_length"))
        var tower =
            try type == "mt5"
            ? t5(hf, context: context, outputs: outputs) : xlmRoBERTa(hf, context: context, outputs: outputs)
        shapes.note("text tower", type, text.source("hf_model_name"))
        tower.pooling = try borrowedPooling(type)
        tower.projection = try borrowedProjection(width: tower.transformer.width, outputs: outputs)
        return tower
    }

    private mutating func borrowedPooling(_ type: String) throws(ModelError) -> TextConfiguration.Pooling {
        let kind = try text.string("hf_pooler_type", default: "mean_pooler")
        let pooling: TextConfiguration.Pooling
        switch (kind, type) {
        case ("mean_pooler", _): pooling = .mean
        case ("cls_last_hidden_state_pooler", _), ("cls_pooler", "mt5"): pooling = .start
        default:
            throw ModelError(
                "\(text.source("hf_pooler_type")) says \(quoted(kind)): with \(type) only \"mean_pooler\" and "
                    + "\"cls_last_hidden_state_pooler\" can be opened")
        }
        shapes.note("text pooling", kind, text.source("hf_pooler_type"))
        return pooling
    }

    private mutating func borrowedProjection(
        width: Int, outputs: Int
    ) throws(ModelError) -> TextConfiguration.Projection {
        let kind = try text.string("hf_proj_type", default: "mlp")
        shapes.note("text projection", kind, text.source("hf_proj_type"))
        switch kind {
        case "linear": return .linear
        case "mlp": return .mlp(hidden: (width + outputs) / 2)
        default:
            throw ModelError(
                "\(text.source("hf_proj_type")) says \(quoted(kind)); known are \"linear\" and \"mlp\"")
        }
    }

    private mutating func xlmRoBERTa(
        _ hf: OpenCLIPSection, context: Int, outputs: Int
    ) throws(ModelError) -> TextConfiguration {
        shapes.names.textTower = .xlmRoBERTa
        let words = "text.transformer.embeddings.word_embeddings.weight"
        let layers = "text.transformer.encoder.layer."
        let width = try shapes.dimension(words, 1, of: 2, "text width")
        let vocabulary = try shapes.dimension(words, 0, of: 2, "vocabulary")
        let heads = try heads(hf, "num_attention_heads", default: 12, dividing: width)
        let activation = try transformersActivation(hf, "hidden_act", default: "gelu")
        let epsilon = try epsilon(hf, "layer_norm_eps", default: 1e-12)
        let padding = try hf.integer("pad_token_id", default: 1, least: 0)
        guard padding < vocabulary else { throw ModelError("\(hf.source("pad_token_id")) is no token") }
        let places = try shapes.size("text.transformer.embeddings.position_embeddings.weight", 0, of: 2)
        guard padding + 1 + context <= places else {
            throw ModelError(
                "\(text.source("context_length")) says \(context) tokens, but the text tower has \(places) positions, "
                    + "the first \(padding + 1) of which are padding's")
        }
        shapes.note("padding", "\(padding), seen by no token", hf.source("pad_token_id"))
        return TextConfiguration(
            transformer: TransformerConfiguration(
                width: width, layers: try shapes.count(layers), attention: AttentionShape(width: width, heads: heads),
                mlpWidth: try shapes.dimension(layers + "0.intermediate.dense.weight", 0, of: 2, "text MLP width"),
                activation: activation, normEpsilon: epsilon, normsAfterSums: true),
            vocabularySize: vocabulary, contextLength: context, pooling: .mean,
            positions: .learned(first: padding + 1), isCausal: false, outputs: outputs, storedPositions: places,
            paddingID: Int32(padding), hidesPadding: true)
    }

    private mutating func t5(
        _ hf: OpenCLIPSection, context: Int, outputs: Int
    ) throws(ModelError) -> TextConfiguration {
        shapes.names.textTower = .t5
        let words = "text.transformer.embed_tokens.weight"
        let blocks = "text.transformer.block."
        let width = try shapes.dimension(words, 1, of: 2, "text width")
        let vocabulary = try shapes.dimension(words, 0, of: 2, "vocabulary")
        let keys = try shapes.size(blocks + "0.layer.0.SelfAttention.q.weight", 0, of: 2)
        let heads = try heads(hf, "num_heads", default: 6, dividing: keys)
        let projection = try hf.string("feed_forward_proj", default: "gated-gelu")
        // The gated GELU is the tanh form (`T5Config.__post_init__`).
        let activations: [String: Activation] = ["gated-gelu": .geluTanh, "relu": .relu, "gated-gelu_new": .geluTanh]
        guard let activation = activations[projection] else {
            throw ModelError("\(hf.source("feed_forward_proj")) says \(quoted(projection)), which cannot be opened yet")
        }
        shapes.note("text activation", activation.rawValue, hf.source("feed_forward_proj"))
        let epsilon = try epsilon(hf, "layer_norm_epsilon", default: 1e-6)
        let buckets = try shapes.dimension(T5Names.distances, 0, of: 2, "distance buckets")
        let greatest = try hf.integer("relative_attention_max_distance", default: 128)
        guard buckets >= 4, greatest > buckets / 4 else {
            throw ModelError("\(weights.name): \(buckets) buckets for distances up to \(greatest) are not known")
        }
        // Its summands of the scores are a table of as many squared.
        guard context <= 1024 else {
            throw ModelError("\(text.source("context_length")) says \(context) tokens, more than 1024")
        }
        shapes.note("greatest distance", "\(greatest)", hf.source("relative_attention_max_distance"))
        let padding = try hf.integer("pad_token_id", default: 0, least: 0)
        guard padding < vocabulary else { throw ModelError("\(hf.source("pad_token_id")) is no token") }
        shapes.note("padding", "\(padding), seen by no token", hf.source("pad_token_id"))
        let isGated = projection.hasPrefix("gated")
        let hidden = blocks + "0.layer.1.DenseReluDense.\(isGated ? "wi_0" : "wi").weight"
        return TextConfiguration(
            transformer: TransformerConfiguration(
                width: width, layers: try shapes.count(blocks),
                attention: AttentionShape(heads: heads, keyWidth: keys / heads, valueWidth: keys / heads, scale: 1),
                mlpWidth: try shapes.dimension(hidden, 0, of: 2, "text MLP width"), activation: activation,
                normEpsilon: epsilon, normKind: .rms, isGated: isGated),
            vocabularySize: vocabulary, contextLength: context, pooling: .mean,
            positions: .relative(buckets: buckets, greatest: greatest), isCausal: false, outputs: outputs,
            paddingID: Int32(padding), hidesPadding: true)
    }

    private mutating func heads(
        _ hf: OpenCLIPSection, _ key: String, default: Int, dividing width: Int
    ) throws(ModelError) -> Int {
        let heads = try hf.integer(key, default: `default`)
        guard width % heads == 0 else {
            throw ModelError("\(hf.source(key)) says \(heads) heads, which do not divide \(width) columns")
        }
        shapes.note("text heads", "\(heads) of \(width / heads)", hf.source(key))
        return heads
    }

    private mutating func epsilon(_ hf: OpenCLIPSection, _ key: String, default: Double) throws(ModelError) -> Float {
        let epsilon = try hf.number(key, default: `default`)
        guard epsilon > 0, epsilon < 1 else {
            throw ModelError("\(hf.source(key)) says \(epsilon), expected a small positive number")
        }
        shapes.note("text norm epsilon", "\(epsilon)", hf.source(key))
        return Float(epsilon)
    }

    private mutating func transformersActivation(
        _ hf: OpenCLIPSection, _ key: String, default: String
    ) throws(ModelError) -> Activation {
        let name = try hf.string(key, default: `default`)
        guard let activation = HuggingFaceFolder.activations[name] else {
            throw ModelError("\(hf.source(key)) says \(quoted(name)), which is not known")
        }
        shapes.note("text activation", activation.rawValue, hf.source(key))
        return activation
    }

    // MARK: Tokenizer

    /// open_clip's `get_tokenizer` of a local folder; the padding is the tokenizer's, unless the tower hides it.
    mutating func tokenizer(_ tower: inout TextConfiguration) throws(ModelError) -> TokenizerKind {
        let name = try text.string("hf_tokenizer_name", default: "")
        let source = text.source("hf_tokenizer_name")
        if let mode = text["tokenizer_mode"]?.string, !mode.isEmpty {
            throw ModelError("\(text.source("tokenizer_mode")) says \(quoted(mode)), which cannot be done yet")
        }
        let arguments = text["tokenizer_kwargs"]
        guard case .object(let members) = arguments ?? .object([]),
            members.allSatisfy({ ["clean", "strip_sep_token"].contains($0.key) })
        else {
            throw ModelError(
                "\(text.source("tokenizer_kwargs")): expected an object with \"clean\" or \"strip_sep_token\"")
        }
        let clean = arguments?["clean"]?.string ?? (name.isEmpty ? "lower" : "whitespace")
        guard !name.isEmpty else {
            guard clean == "lower" else {
                throw ModelError(
                    "\(text.source("tokenizer_kwargs")) says \(quoted(clean)): CLIP's tokenizer makes letters small")
            }
            shapes.note("tokenizer", "CLIP's, with open_clip's special tokens", source)
            return .openCLIP
        }
        guard let cleaning = TokenizerFolder.Cleaning(rawValue: clean) else {
            throw ModelError("\(text.source("tokenizer_kwargs")) says \(quoted(clean)), which is not known")
        }
        let folders = [options.tokenizerFolder, folder, name].compactMap(\.self)
        guard let path = folders.first(where: TokenizerFolder.isOne) else {
            shapes.note("tokenizer", "\(name), whose files are not there", source)
            return .other(name)
        }
        let tokenizer = TokenizerFolder(
            path: path,
            library: .openCLIP(
                cleaning: cleaning, stripsSeparator: arguments?["strip_sep_token"]?.bool ?? false))
        shapes.note("tokenizer", "the files in \(path), for \(name)", source)
        if !tower.hidesPadding, tower.pooling != .classToken, let padding = try tokenizer.paddingID() {
            tower.paddingID = padding.id
            shapes.note("padding", "\(padding.id)", padding.source)
        }
        return .folder(tokenizer)
    }
}
