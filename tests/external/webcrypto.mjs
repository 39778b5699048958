// Node 18, which Debian 12 has, keeps WebCrypto in a module; the libraries look for the global. Imported before them.
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;
