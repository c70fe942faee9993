/** Longer tokens are runs of one character, which shorter merges reach; each of their cuts would be looked at. */
const maxPieceLength = 128;

/**
 * The merges that a SentencePiece BPE model implies. It has none: two neighbours join whenever the result is a token, the one with
 * the highest score first. So each token stands for every cut into two tokens, in the order of scores; a list of merges then gives
 * the same tokens. Ties go to the shorter left side, as in transformers' converter. `isMerged` says which ids take part.
 */
export function mergesOfScores(
  tokens: readonly string[],
  scores: ArrayLike<number>,
  isMerged: (id: number) => boolean,
): [string, string][] {
  const known = new Map<string, number>();
  for (const [id, token] of tokens.entries()) if (isMerged(id)) known.set(token, id);
  const merges: { left: string; right: string; score: number; order: number }[] = [];
  for (const [token, id] of known) {
    if (token.length > maxPieceLength) continue;
    for (let cut = 1; cut < token.length; cut++) {
      const right = known.get(token.slice(cut));
      if (right === undefined) continue;
      const left = known.get(token.slice(0, cut));
      if (left === undefined) continue;
      merges.push({ left: tokens[left]!, right: tokens[right]!, score: scores[id]!, order: merges.length });
    }
  }
  merges.sort((a, b) => b.score - a.score || a.order - b.order);
  return merges.map(({ left, right }) => [left, right]);
}
