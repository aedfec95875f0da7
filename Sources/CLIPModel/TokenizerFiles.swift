// What a model needs to know of the tokenizer files beside it: whether there are any, and what sentences are filled up with.
import Checkpoints

extension TokenizerFolder {
    /// Whether a folder holds a tokenizer.
    static func isOne(_ folder: String) -> Bool {
        let path = folder.hasSuffix("/") ? folder : folder + "/"
        let sufficient = [
            "tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.txt",
        ]
        return sufficient.contains { MappedFile.exists(path + $0) }
            || ["vocab.json", "merges.txt"].allSatisfy { MappedFile.exists(path + $0) }
    }

    /// The id of the `pad_token` of tokenizer_config.json or special_tokens_map.json, where files say it.
    func paddingID() throws(ModelError) -> (id: Int32, source: String)? {
        let folder = path.hasSuffix("/") ? path : path + "/"
        var files: [String: JSON] = [:]
        for name in ["tokenizer_config.json", "special_tokens_map.json"] where MappedFile.exists(folder + name) {
            files[name] = try HuggingFaceFolder.json(folder + name)
        }
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            guard let value = files[name]?["pad_token"], let token = value.string ?? value["content"]?.string else {
                continue
            }
            if case .object(let members)? = files["tokenizer_config.json"]?["added_tokens_decoder"],
                let member = members.first(where: { $0.value["content"]?.string == token }),
                let id = Int32(member.key)
            {
                return (id, "\(name) pad_token, and added_tokens_decoder")
            }
            guard MappedFile.exists(folder + "tokenizer.json"),
                let tokenizer = try? HuggingFaceFolder.json(folder + "tokenizer.json")
            else { continue }
            let added = tokenizer["added_tokens"]?.array?.first { $0["content"]?.string == token }
            if let number = added?["id"]?.integer ?? tokenizer["model"]?["vocab"]?[token]?.integer,
                let id = Int32(exactly: number)
            {
                return (id, "\(name) pad_token, and tokenizer.json")
            }
        }
        return nil
    }
}
