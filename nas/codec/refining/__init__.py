"""Better latents for one picture than g_a gives: refined, or moved where rounding would show."""
