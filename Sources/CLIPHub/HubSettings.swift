// Where models come from and where they are kept, as the environment says it to huggingface_hub and to openai-clip.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

package struct HubSettings: Sendable {
    /// The hub, without a slash at the end: HF_ENDPOINT.
    package var endpoint: String
    /// What OpenAI's files lie under.
    package var openAIEndpoint = "https://openaipublic.azureedge.net/clip/models"
    /// HF_HUB_CACHE, else `hub` in HF_HOME.
    package var hubCache: String
    /// Where openai-clip keeps its files.
    package var clipCache: String
    /// HF_TOKEN, else what `hf auth login` left. Sent to `endpoint` and to nobody else.
    package var token: String?
    /// HF_HUB_OFFLINE: nothing is fetched.
    package var isOffline: Bool
    /// HF_HUB_DISABLE_SYMLINKS: snapshots hold the files themselves, as where the file system has no links.
    package var avoidsLinks: Bool
    /// SSL_CERT_FILE and SSL_CERT_DIR: certificates to trust instead of the system's.
    package var certificateFile: String?
    package var certificateFolder: String?
    /// Seconds before the first repetition; each further one waits twice as long.
    package var retryDelay = 0.5
    /// How often in a row a request may fail without anything having arrived.
    package var attempts = 5
    /// Seconds without a byte after which a transfer has failed.
    package var stallTimeout = 30
    /// Locks an open file, as flock does; some network mounts cannot.
    package var lock: @Sendable (_ descriptor: Int32, _ operation: Int32) -> Int32 = { flock($0, $1) }

    /// - Parameter variable: the value of an environment variable; none where it is not set.
    package init(_ variable: (String) -> String?) {
        func value(_ names: String...) -> String? {
            for name in names {
                if let value = variable(name), !value.isEmpty { return value }
            }
            return nil
        }
        func isTrue(_ value: String?) -> Bool { ["1", "ON", "YES", "TRUE"].contains(value?.uppercased()) }
        let home = value("HOME") ?? getpwuid(getuid()).map { String(cString: $0.pointee.pw_dir) } ?? ""
        func expanded(_ path: String) -> String {
            path == "~" || path.hasPrefix("~/") ? home + path.dropFirst() : path
        }
        let caches = value("XDG_CACHE_HOME").map(expanded) ?? home + "/.cache"
        let hub = value("HF_HOME").map(expanded) ?? caches + "/huggingface"
        endpoint = value("HF_ENDPOINT") ?? "https://huggingface.co"
        while endpoint.hasSuffix("/") { endpoint.removeLast() }
        hubCache = value("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE").map(expanded) ?? hub + "/hub"
        clipCache = home + "/.cache/clip"
        let file = value("HF_TOKEN_PATH").map(expanded) ?? hub + "/token"
        let kept = isTrue(value("HF_HUB_DISABLE_IMPLICIT_TOKEN")) ? nil : Files.text(file)
        let token = (value("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") ?? kept ?? "").unicodeScalars
            .filter { $0.value > 0x20 && $0.value < 0x7F }
        self.token = token.isEmpty ? nil : String(String.UnicodeScalarView(token))
        avoidsLinks = isTrue(value("HF_HUB_DISABLE_SYMLINKS"))
        isOffline = isTrue(value("HF_HUB_OFFLINE") ?? value("TRANSFORMERS_OFFLINE"))
        certificateFile = value("SSL_CERT_FILE").map(expanded)
        certificateFolder = value("SSL_CERT_DIR").map(expanded)
    }

    /// As this process's environment says.
    package static var current: HubSettings {
        HubSettings { name in getenv(name).map { String(cString: $0) } }
    }
}
