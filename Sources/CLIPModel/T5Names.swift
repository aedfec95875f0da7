// Where open_clip keeps the encoder of transformers' T5 and mT5 as a text tower: `HFTextEncoder` of its hf_model.py.
import CLIPCompute

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

enum T5Names {
    static let distances = "text.transformer.block.0.layer.0.SelfAttention.relative_attention_bias.weight"

    static func parameters(_ text: TextConfiguration, _ loader: ParameterLoader) -> TextParameters {
        let transformer = text.transformer
        let width = transformer.width
        let epsilon = transformer.normEpsilon
        let heads = transformer.attention.heads
        let keys = heads * transformer.attention.keyWidth
        let root = loader["text.transformer"]
        // The table's second name; both are in files that were not saved as safetensors.
        loader.ignore("text.transformer.shared.weight")
        let tokens = TokenParameters(
            table: HostMatrix(root["embed_tokens"].tensor("weight", [text.vocabularySize, width])), positions: nil)
        let storedTokens = StoredParameters(parameters: tokens, stored: loader.takeRecent())
        var bias: StoredParameters<HostTensor>?
        if case .relative(let buckets, let greatest) = text.positions {
            let length = text.contextLength
            let table = loader.tensor(distances, [buckets, heads]).mapped(to: [heads, length, length]) { table in
                var scores: [Float] = []
                scores.reserveCapacity(heads * length * length)
                for head in 0..<heads {
                    for query in 0..<length {
                        for key in 0..<length {
                            let bucket = Self.bucket(key - query, of: buckets, greatest: greatest)
                            scores.append(table[bucket * heads + head])
                        }
                    }
                }
                return scores
            }
            bias = StoredParameters(parameters: table, stored: loader.takeRecent())
        }
        let blocks = (0..<transformer.layers).map { index in
            let block = root["block"][index]["layer"]
            let attention = block[0]["SelfAttention"]
            let feedForward = block[1]["DenseReluDense"]
            let norm = block[1].norm("layer_norm", width, epsilon: epsilon, kind: .rms)
            let hidden = transformer.mlpWidth
            let names = transformer.isGated ? ["wi_0", "wi_1"] : ["wi"]
            return BlockParameters(
                attention: transformer.attention,
                attentionNorm: block[0].norm("layer_norm", width, epsilon: epsilon, kind: .rms),
                query: attention.projection("q", inputs: width, outputs: keys, hasBias: false),
                key: attention.projection("k", inputs: width, outputs: keys, hasBias: false),
                value: attention.projection("v", inputs: width, outputs: keys, hasBias: false),
                output: attention.linear("o", inputs: keys, outputs: width, hasBias: false),
                mlp: MLPParameters(
                    expand: LinearParameters(
                        weight: HostMatrix(names.map { feedForward[$0].tensor("weight", [hidden, width]) }),
                        norm: norm, activation: transformer.activation, gated: transformer.isGated),
                    contract: feedForward.linear("wo", inputs: hidden, outputs: width, hasBias: false)),
                stored: loader.takeRecent())
        }
        let norm = root.norm("final_layer_norm", width, epsilon: epsilon, kind: .rms)
        guard text.pooling == .mean else {
            return TextParameters(
                tokens: storedTokens, positionBias: bias, blocks: blocks,
                head: XLMRoBERTaNames.head(text, loader, norm: norm))
        }
        let postNorm = StoredParameters(parameters: norm, stored: loader.takeRecent())
        return TextParameters(
            tokens: storedTokens, positionBias: bias, blocks: blocks, postNorm: postNorm,
            head: XLMRoBERTaNames.head(text, loader, norm: nil))
    }

    /// `_relative_position_bucket` for both directions: half of the buckets for keys behind the query; of each half,
    /// half for one distance each and the others for ever longer stretches up to `greatest`. The logarithms are
    /// float32, as the reference's, whose rounding decides at the edges of a bucket.
    static func bucket(_ distance: Int, of buckets: Int, greatest: Int) -> Int {
        let half = buckets / 2
        let exact = half / 2
        let first = distance > 0 ? half : 0
        let length = abs(distance)
        if length < exact { return first + length }
        let share =
            logf(Float(length) / Float(exact)) / Float(log(Double(greatest) / Double(exact)))
        let stretch = exact + Int(share * Float(half - exact))
        return first + min(stretch, half - 1)
    }
}
