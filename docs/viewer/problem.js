/** What a person did or has that cannot be decoded, in one plain sentence. */
export class Problem extends Error {}
