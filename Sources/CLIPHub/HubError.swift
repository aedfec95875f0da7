// The one error of this floor.

/// A model that cannot be had by its name: what failed, where, and what to do, in one sentence.
package struct HubError: Error, CustomStringConvertible, Sendable {
    package enum Kind: Sendable {
        /// The name, the network or what it delivered.
        case model
        /// The folder that models are kept in.
        case cache
    }

    package let kind: Kind
    package let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }

    static func model(_ description: String) -> HubError { HubError(.model, description) }
    static func cache(_ description: String) -> HubError { HubError(.cache, description) }
}

/// How far a file has come.
package struct TransferProgress: Sendable {
    /// The model's name as it was asked for.
    package var model: String
    /// The file's name.
    package var file: String
    /// Where models of this kind are kept.
    package var folder: String
    package var bytes: Int
    /// None where nobody has said it yet.
    package var total: Int?
    /// Whether another process is fetching the same file.
    package var isWaiting = false
}

/// Told about progress at least once a second while anything is under way. What it throws ends the transfer, and what was
/// fetched by then is kept for the next attempt.
package typealias ProgressHandler = (TransferProgress) throws -> Void
